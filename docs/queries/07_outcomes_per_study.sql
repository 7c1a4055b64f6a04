-- How many primary outcomes do studies have, those without any included?
SELECT coalesce(counted.outcomes, 0) AS primary_outcomes, count(*) AS studies
FROM studies
LEFT JOIN (
    SELECT nct_id AS of_study, count(*) AS outcomes
    FROM design_outcomes
    WHERE outcome_type = 'primary'
    GROUP BY nct_id
) AS counted ON studies.nct_id = counted.of_study
GROUP BY coalesce(counted.outcomes, 0)
ORDER BY primary_outcomes
