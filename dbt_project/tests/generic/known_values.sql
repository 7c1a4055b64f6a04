{#-
    Values of columns that their enumerations do not have, each once, in one pass over the table:
    a test per column would read the largest tables several times.

    `columns` maps each column to the values it may have; those in `joined` hold several of them,
    joined with `/`.
-#}
{% test known_values(model, columns, joined=[]) %}
    {%- set unknown = {} -%}
    {%- for column, known in columns.items() -%}
        {%- set values = "'" ~ known | join("', '") ~ "'" -%}
        {%- do unknown.update({
            column: "not string_to_array(" ~ column ~ ", '/') <@ array[" ~ values ~ "]"
            if column in joined else column ~ " not in (" ~ values ~ ")"
        }) -%}
    {%- endfor -%}
    select
        cell.column_name,
        cell.cell_value,
        count(*) as row_count
    from {{ model }}
    cross join lateral (
        values
        {% for column, is_unknown in unknown.items() %}
            ('{{ column }}', {{ column }}, {{ is_unknown }}) {{- "," if not loop.last }}
        {% endfor %}
    ) as cell (column_name, cell_value, is_unknown)
    where
        cell.is_unknown
        -- The same again by itself, so that only rows with an unknown value are multiplied.
        and ({{ unknown.values() | join("\n or ") }})
    group by cell.column_name, cell.cell_value
{% endtest %}
