{{ config(materialized="ephemeral") }}

with

studies as (
    select * from {{ ref("dim_study") }}
)

select
    studies.nct_id,
    dates.column_name,
    dates.date_day,
    {{ is_within_calendar("dates.date_day") }} as is_within_calendar
from studies
cross join
    lateral (
        values
        ('study_first_submitted_date', studies.study_first_submitted_date),
        ('study_first_posted_date', studies.study_first_posted_date),
        ('last_update_submitted_date', studies.last_update_submitted_date),
        ('last_update_posted_date', studies.last_update_posted_date),
        ('results_first_submitted_date', studies.results_first_submitted_date),
        ('results_first_posted_date', studies.results_first_posted_date),
        ('start_date', studies.start_date),
        ('primary_completion_date', studies.primary_completion_date),
        ('completion_date', studies.completion_date)
    ) as dates (column_name, date_day)
where dates.date_day is not null
