-- A build replaces the rows of its month. Earlier months are history, which staging does not hold:
-- not even a full refresh touches them.
{{ config(
    unique_key="snapshot_month",
    incremental_strategy="delete+insert",
    on_schema_change="append_new_columns",
    full_refresh=false,
    indexes=[
        {"columns": ["nct_id", "snapshot_month"], "unique": true},
        {"columns": ["snapshot_month"]},
    ],
) }}

with

studies as (
    select * from {{ ref("dim_study") }}
),

data_date as (
    select * from {{ ref("int_data_date") }}
)

select
    studies.nct_id,
    data_date.snapshot_month,
    studies.content_hash,
    studies.overall_status,
    studies.enrollment,
    studies.enrollment_type,
    studies.sponsor_count,
    studies.condition_count,
    studies.intervention_count,
    studies.site_count
from studies
cross join data_date
