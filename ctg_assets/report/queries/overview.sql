-- How much there is, in numbers.
select
    count(*) as studies,
    count(*) filter (where overall_status = 'RECRUITING') as recruiting,
    count(*) filter (where study_type = 'INTERVENTIONAL') as interventional,
    count(*) filter (where has_results) as with_results,
    (select count(*) from {marts}.dim_sponsor) as sponsors,
    (select count(*) from {marts}.dim_site) as sites,
    (select count(distinct country) from {marts}.dim_site) as countries
from {marts}.dim_study
