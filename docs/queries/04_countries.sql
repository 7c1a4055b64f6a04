-- Where are the sites?
SELECT country, count(DISTINCT nct_id) AS studies, count(*) AS sites
FROM facilities
WHERE country IS NOT NULL
GROUP BY country
ORDER BY sites DESC, country
LIMIT 20
