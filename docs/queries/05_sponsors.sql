-- Whose studies are these, how many of them are over, and how many people are in them?
SELECT
    sponsors.name AS sponsor_name,
    count(*) AS studies,
    count(*) FILTER (WHERE studies.overall_status = 'COMPLETED') AS completed,
    sum(studies.enrollment) AS people
FROM sponsors
INNER JOIN studies ON sponsors.nct_id = studies.nct_id
WHERE sponsors.lead_or_collaborator = 'lead' AND studies.enrollment IS NOT NULL
GROUP BY sponsors.name
ORDER BY studies DESC, sponsor_name
LIMIT 20
