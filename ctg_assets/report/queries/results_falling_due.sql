-- Trials whose results fall due within a year from the day of the data, by month.
with

data_day as (
    select (coalesce(max(data_timestamp), now()) at time zone 'UTC')::date as day
    from {staging}.load_info
)

select
    to_char(r.due_date, 'YYYY-MM') as month,
    count(*) as trials
from {marts}.fct_results_reporting as r
cross join data_day as d
where r.status = 'ongoing' and r.due_date >= d.day and r.due_date < d.day + 365
group by 1
order by 1
