{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="snapshot_month",
    on_schema_change="append_new_columns",
    full_refresh=false,
    indexes=[
        {"columns": ["nct_id", "snapshot_month"], "unique": true},
        {"columns": ["snapshot_month"]},
    ],
) }}

-- The month, not the study and month, is what a run replaces: a study that left the registry since
-- the month's last run leaves the month too. Earlier months are history that exists nowhere else,
-- hence no full refresh.

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
    data_date.data_date,
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
