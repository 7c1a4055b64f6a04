-- Which phases are the studies in that recruit?
SELECT coalesce(phase, 'none') AS study_phase, count(*) AS studies
FROM studies
WHERE overall_status = 'RECRUITING'
GROUP BY coalesce(phase, 'none')
ORDER BY studies DESC, study_phase
