-- The organizations that lead most studies.
select
    sp.sponsor_name as sponsor,
    sp.agency_class as class,
    count(*) as studies,
    count(*) filter (where s.overall_status = 'RECRUITING') as recruiting
from {marts}.dim_study as s
inner join {marts}.dim_sponsor as sp on s.lead_sponsor_key = sp.sponsor_key
group by sp.sponsor_key, sp.sponsor_name, sp.agency_class
order by studies desc, sponsor
limit 20
