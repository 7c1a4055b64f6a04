-- A build replaces the rows of its month. Earlier months are history, which staging does not hold:
-- not even a full refresh touches them. A row depends on its study's content alone: after a load of
-- changes those of the same content stay.
{{ config(
    unique_key=["nct_id", "snapshot_month"],
    incremental_strategy="delete+insert",
    on_schema_change="append_new_columns",
    full_refresh=false,
    indexes=[
        {"columns": ["nct_id", "snapshot_month"], "unique": true},
        {"columns": ["snapshot_month"]},
    ],
    post_hook="
        delete from {{ this }} as old
        where old.snapshot_month = cast(date_trunc('month', {{ data_date() }}) as date)
        and not exists (
            select from {{ ref('dim_study') }} as study where study.nct_id = old.nct_id
        )
    ",
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
{%- if not flags.FULL_REFRESH and is_incremental() %}
where
    not exists (
        select from {{ this }} as there
        where
            there.nct_id = studies.nct_id
            and there.snapshot_month = data_date.snapshot_month
            and there.content_hash = studies.content_hash
            and {{ since(model) }} is not null
    )
{%- endif %}
