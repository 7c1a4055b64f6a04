{% macro days_between(first_day, precision, other_first_day, other_precision) -%}
    {%- set coarser -%}
        case
            when 'year' in ({{ precision }}, {{ other_precision }}) then 'year'
            when 'month' in ({{ precision }}, {{ other_precision }}) then 'month'
            else 'day'
        end
    {%- endset -%}
    cast(date_trunc({{ coarser }}, {{ other_first_day }}) as date)
    - cast(date_trunc({{ coarser }}, {{ first_day }}) as date)
{%- endmacro %}
