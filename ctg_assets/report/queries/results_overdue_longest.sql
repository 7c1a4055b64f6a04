-- The trials whose results are overdue the longest.
select
    r.nct_id,
    s.brief_title as title,
    sp.sponsor_name as sponsor,
    r.due_date,
    r.days_late
from {marts}.fct_results_reporting as r
inner join {marts}.dim_study as s on r.nct_id = s.nct_id
left join {marts}.dim_sponsor as sp on s.lead_sponsor_key = sp.sponsor_key
where r.status in ('overdue', 'overdue-cancelled')
order by r.days_late desc, r.nct_id
limit 15
