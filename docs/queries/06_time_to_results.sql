-- How many days after the primary completion are results posted: the median by type of study?
SELECT
    study_type,
    count(*) AS studies,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY results_first_posted_date - primary_completion_date) AS median_days
FROM studies
WHERE results_first_posted_date IS NOT NULL AND primary_completion_date IS NOT NULL
GROUP BY study_type
ORDER BY study_type
