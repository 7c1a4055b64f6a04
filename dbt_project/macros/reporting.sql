{#- The day on which 42 CFR part 11 came into force. -#}
{% macro rule_effective_date() -%}
    make_date(2017, 1, 18)
{%- endmacro %}

{#- A day given as text (2026-08-13), or as YAML reads it, as SQL; NULL for none. -#}
{% macro day_or_null(day) -%}
    cast({{ "'" ~ day ~ "'" if day else "null" }} as date)
{%- endmacro %}
