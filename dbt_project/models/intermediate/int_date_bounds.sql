{{ config(materialized="ephemeral") }}

-- Column by column, in one pass: unfolding the nine dates of each study takes ten times as long.
select
    least(
        {%- for column in study_date_columns() %}
            min({{ column }}) filter (where {{ is_within_calendar(column) }})
            {{- "," if not loop.last }}
        {%- endfor %}
    ) as first_day,
    greatest(
        {%- for column in study_date_columns() %}
            max({{ column }}) filter (where {{ is_within_calendar(column) }})
            {{- "," if not loop.last }}
        {%- endfor %}
    ) as last_day
from {{ ref("dim_study") }}
