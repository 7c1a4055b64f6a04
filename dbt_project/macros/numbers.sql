{#- Of the statuses of numbers that belong together, that of the one that can be used least. NULL where none was sent. -#}
{% macro poorest_number_status(statuses) -%}
    case
        {%- for status in ["unparsed", "ambiguous comma", "not available", "qualified"] %}
        when '{{ status }}' in ({{ statuses | join(", ") }}) then '{{ status }}'
        {%- endfor %}
        else coalesce({{ statuses | join(", ") }})
    end
{%- endmacro %}

{#- A part of a whole; NULL where either is missing, or the whole is none. -#}
{% macro share(part, whole) -%}
    cast({{ part }} as double precision) / nullif({{ whole }}, 0)
{%- endmacro %}
