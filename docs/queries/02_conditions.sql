-- Which diseases are studied most, broader terms included?
SELECT mesh_term, count(DISTINCT nct_id) AS studies
FROM browse_conditions
GROUP BY mesh_term
ORDER BY studies DESC, mesh_term
LIMIT 20
