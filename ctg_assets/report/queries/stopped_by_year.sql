-- Of the studies that started in a year, how many were completed and how many were stopped.
with

data_day as (
    select (coalesce(max(data_timestamp), now()) at time zone 'UTC')::date as day
    from {staging}.load_info
)

select
    extract(year from start_date)::integer as year,
    case when overall_status = 'COMPLETED' then 'Completed' else 'Stopped' end as outcome,
    count(*) as studies
from {marts}.dim_study
cross join data_day
where
    overall_status in ('COMPLETED', 'TERMINATED', 'WITHDRAWN', 'SUSPENDED')
    and start_date >= date '2000-01-01'
    and start_date <= data_day.day
group by 1, 2
order by 1, 2
