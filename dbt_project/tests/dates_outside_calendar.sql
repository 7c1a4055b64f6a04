{{ config(severity="warn", meta={"dagster": {"ref": {"name": "dim_study"}}}) }}

-- Dates that dim_date may not cover: most likely typing errors of registrants, kept as sent.
select
    nct_id,
    column_name,
    date_day
from {{ ref("int_study_dates") }}
where not is_within_calendar
