{% macro is_within_calendar(date_column) -%}
    {{ date_column }} between make_date({{ var("calendar_first_year") }}, 1, 1)
    and make_date({{ var("calendar_last_year") }}, 12, 31)
{%- endmacro %}

{% macro study_date_columns() -%}
    {{ return([
        "study_first_submitted_date", "study_first_posted_date", "last_update_submitted_date",
        "last_update_posted_date", "results_first_submitted_date", "results_first_posted_date",
        "start_date", "primary_completion_date", "completion_date",
    ]) }}
{%- endmacro %}
