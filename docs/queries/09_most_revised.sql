-- Which studies changed most often, and since when are they as they are?
SELECT nct_id, versions, valid_from
FROM (
    SELECT
        nct_id,
        valid_from,
        count(*) OVER (PARTITION BY nct_id) AS versions,
        row_number() OVER (PARTITION BY nct_id ORDER BY valid_from DESC) AS place
    FROM study_versions
) AS counted
WHERE place = 1
ORDER BY versions DESC, nct_id
LIMIT 20
