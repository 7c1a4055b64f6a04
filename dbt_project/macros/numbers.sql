{% macro poorest_number_status(statuses) -%}
    case
        {%- for status in ["unparsed", "ambiguous comma", "not available", "qualified"] %}
        when '{{ status }}' in ({{ statuses | join(", ") }}) then '{{ status }}'
        {%- endfor %}
        else coalesce({{ statuses | join(", ") }})
    end
{%- endmacro %}
