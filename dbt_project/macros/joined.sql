{#-
    A list as one text, its items between bars as in AACT's views all_*; NULL for none. A bar within an item
    is made a slash, and an item that is missing is empty, so that whoever splits the text gets as
    many items as the list has. No registry text contains the unit separator.
-#}
{% macro joined(list) -%}
    nullif(translate(array_to_string({{ list }}, chr(31), ''), '|' || chr(31), '/|'), '')
{%- endmacro %}
