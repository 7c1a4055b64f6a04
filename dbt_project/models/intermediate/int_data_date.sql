{{ config(materialized="ephemeral") }}

with

load_info as (
    select * from {{ ref("stg_load_info") }}
),

studies as (
    select * from {{ ref("stg_studies") }}
),

-- A bulk download does not say when its data were published; its newest posting nearly does.
known as (
    select
        coalesce(
            (select cast(load_info.data_timestamp at time zone 'UTC' as date) from load_info),
            (select max(studies.last_update_posted_date) from studies)
        ) as data_date
)

select
    data_date,
    cast(date_trunc('month', data_date) as date) as snapshot_month
from known
