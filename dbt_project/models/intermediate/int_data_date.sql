{{ config(materialized="ephemeral") }}

with

known as (
    select {{ data_date() }} as data_date
)

select
    data_date,
    cast(date_trunc('month', data_date) as date) as snapshot_month
from known
