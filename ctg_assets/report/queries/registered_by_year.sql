-- Studies by the year in which they were first posted, and by type.
select
    extract(year from study_first_posted_date)::integer as year,
    study_type,
    count(*) as studies
from {marts}.dim_study
where study_first_posted_date is not null
group by 1, 2
order by 1, 2
