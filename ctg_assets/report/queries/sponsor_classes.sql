-- Studies by the class of the organization that leads them.
select
    sp.agency_class as class,
    count(*) as studies
from {marts}.dim_study as s
inner join {marts}.dim_sponsor as sp on s.lead_sponsor_key = sp.sponsor_key
group by sp.agency_class
order by studies desc, class
