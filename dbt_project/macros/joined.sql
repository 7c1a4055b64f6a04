{% macro joined(list) -%}
    nullif(translate(array_to_string({{ list }}, chr(31), ''), '|' || chr(31), '/|'), '')
{%- endmacro %}
