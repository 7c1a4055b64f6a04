-- How many studies have a site within 1,000 km of Oslo (59.91 N, 10.75 E), and how many sites are there?
SELECT count(DISTINCT nct_id) AS studies, count(*) AS sites
FROM facilities
WHERE
    latitude IS NOT NULL AND longitude IS NOT NULL
    AND 2 * 6371 * asin(sqrt(
        power(sin(radians(latitude - 59.91) / 2), 2)
        + cos(radians(59.91)) * cos(radians(latitude)) * power(sin(radians(longitude - 10.75) / 2), 2)
    )) <= 1000
