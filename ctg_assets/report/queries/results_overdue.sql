-- The sponsors that most results are overdue from.
select
    sponsor_name as sponsor,
    trials_overdue,
    trials_due,
    percent_reported
from {marts}.fct_results_reporting_by_sponsor
where trials_overdue > 0
order by trials_overdue desc, percent_reported, sponsor
limit 15
