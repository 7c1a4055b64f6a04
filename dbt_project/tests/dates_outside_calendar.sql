{{ config(severity="warn", meta={"dagster": {"ref": {"name": "dim_study"}}}) }}

-- Dates that dim_date may not cover: most likely typing errors of registrants, kept as sent.
with

suspects as (
    select * from {{ ref("dim_study") }}
    where
        {%- for column in study_date_columns() %}
            {{ "or " if not loop.first }}not {{ is_within_calendar(column) }}
        {%- endfor %}
)

select
    suspects.nct_id,
    dates.column_name,
    dates.date_day
from suspects
cross join
    lateral (
        values
        {%- for column in study_date_columns() %}
            ('{{ column }}', suspects.{{ column }}){{ "," if not loop.last }}
        {%- endfor %}
    ) as dates (column_name, date_day)
where not {{ is_within_calendar("dates.date_day") }}
