{{ config(meta={"dagster": {"ref": {"name": "dim_date"}}}) }}

-- Every date that dim_date may cover has its row: it reaches far enough and leaves out no day.
with

bounds as (
    select * from {{ ref("int_date_bounds") }}
),

calendar as (
    select
        min(date_day) as first_day,
        max(date_day) as last_day,
        count(*) as days
    from {{ ref("dim_date") }}
)

select
    bounds.first_day,
    bounds.last_day,
    calendar.first_day as first_day_there,
    calendar.last_day as last_day_there,
    calendar.days as days_there
from bounds
cross join calendar
where
    bounds.first_day is not null
    and (
        calendar.days = 0
        or bounds.first_day < calendar.first_day
        or bounds.last_day > calendar.last_day
        or calendar.days <> calendar.last_day - calendar.first_day + 1
    )
