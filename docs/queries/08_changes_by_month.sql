-- What happened to studies, month by month (in UTC)?
SELECT
    extract(YEAR FROM observed_at) AS in_year,
    extract(MONTH FROM observed_at) AS in_month,
    kind,
    count(*) AS changes
FROM study_changes
GROUP BY extract(YEAR FROM observed_at), extract(MONTH FROM observed_at), kind
ORDER BY in_year, in_month, kind
