{#- The condition that a column has a value which is not among the known ones. NULL for NULL. -#}
{% macro is_unknown_value(column, known, is_joined) -%}
    {%- if is_joined -%}
        not string_to_array({{ column }}, '/') <@ array['{{ known | join("', '") }}']
    {%- else -%}
        {{ column }} not in ('{{ known | join("', '") }}')
    {%- endif -%}
{%- endmacro %}
