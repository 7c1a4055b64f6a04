{{ config(severity="warn", meta={"dagster": {"ref": {"name": "dim_study"}}}) }}

-- Dates that dim_date may not cover: most likely typing errors of registrants, kept as sent.
-- Dagster shows a test only where it depends on an asset, hence:
-- depends_on: {{ ref("dim_study") }}
select
    nct_id,
    column_name,
    date_day
from {{ ref("int_study_dates") }}
where not is_within_calendar
