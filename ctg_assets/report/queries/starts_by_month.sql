-- Studies by the month in which they start: two years back from the day of the data, one year ahead.
with

data_day as (
    select (coalesce(max(data_timestamp), now()) at time zone 'UTC')::date as day
    from {staging}.load_info
)

select
    to_char(s.start_date, 'YYYY-MM') as month,
    coalesce(s.start_date_type, 'NOT_STATED') as start_date_type,
    count(*) as studies
from {marts}.dim_study as s
cross join data_day as d
where
    s.start_date >= date_trunc('month', d.day) - interval '24 months'
    and s.start_date < date_trunc('month', d.day) + interval '13 months'
group by 1, 2
order by 1, 2
