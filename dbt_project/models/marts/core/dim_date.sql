{{ config(
    unique_key="date_day",
    indexes=[{"columns": ["date_day"], "unique": true}],
) }}

with

bounds as (
    select
        first_day,
        last_day
    from {{ ref("int_date_bounds") }}
    union all
    select
        min(snapshot_month) as first_day,
        max(snapshot_month) as last_day
    from {{ ref("dim_snapshot_month") }}
),

-- Whole years; no row at all where there are no dates.
years as (
    select
        date_trunc('year', min(first_day)) as first_day,
        date_trunc('year', max(last_day)) + interval '1 year - 1 day' as last_day
    from bounds
),

days as (
    select cast(generate_series(first_day, last_day, interval '1 day') as date) as date_day
    from years
)

select
    date_day,
    cast(extract(year from date_day) as integer) as calendar_year,
    cast(extract(quarter from date_day) as integer) as quarter_of_year,
    cast(extract(month from date_day) as integer) as month_of_year,
    cast(extract(day from date_day) as integer) as day_of_month,
    cast(extract(isodow from date_day) as integer) as day_of_week,
    to_char(date_day, 'YYYY-MM') as year_month,
    to_char(date_day, 'YYYY-"Q"Q') as year_quarter,
    to_char(date_day, 'FMMonth') as month_name,
    cast(date_trunc('month', date_day) as date) as month_start,
    cast(date_trunc('quarter', date_day) as date) as quarter_start,
    extract(day from date_day + 1) = 1 as is_month_end,
    cast(extract(year from date_day + interval '3 months') as integer) as us_fiscal_year
from days
