{{ config(meta={"dagster": {"ref": {"name": "dim_date"}}}) }}

-- Every date that dim_date may cover has its row there.
select
    study_dates.nct_id,
    study_dates.column_name,
    study_dates.date_day
from {{ ref("int_study_dates") }} as study_dates
left join {{ ref("dim_date") }} as calendar on study_dates.date_day = calendar.date_day
where study_dates.is_within_calendar and calendar.date_day is null
