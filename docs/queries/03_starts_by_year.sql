-- How many studies of each type began in each year?
SELECT extract(YEAR FROM start_date) AS start_year, study_type, count(*) AS studies
FROM studies
WHERE start_date IS NOT NULL AND study_type IS NOT NULL
GROUP BY extract(YEAR FROM start_date), study_type
ORDER BY start_year, study_type
