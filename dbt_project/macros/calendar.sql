{#- Whether a date lies in the years that dim_date may cover. NULL for NULL. -#}
{% macro is_within_calendar(date_column) -%}
    {{ date_column }} between make_date({{ var("calendar_first_year") }}, 1, 1)
    and make_date({{ var("calendar_last_year") }}, 12, 31)
{%- endmacro %}
