{#-
    Values of columns that their enumerations do not have, each once, in one pass over the table:
    a test per column would read the largest tables several times.

    `columns` maps each column to the values it may have; those in `joined` hold several of them,
    joined with `/`.
-#}
{% test known_values(model, columns, joined=[]) %}
    select
        cell.column_name,
        cell.cell_value,
        count(*) as row_count
    from {{ model }}
    cross join lateral (
        values
        {% for column, known in columns.items() %}
            ('{{ column }}', {{ column }}, {{ is_unknown_value(column, known, column in joined) }})
            {{- "," if not loop.last }}
        {% endfor %}
    ) as cell (column_name, cell_value, is_unknown)
    where
        cell.is_unknown
        -- The same again by itself, so that only rows with an unknown value are multiplied.
        and (
            {% for column, known in columns.items() %}
                {{ is_unknown_value(column, known, column in joined) }}
                {{ "or" if not loop.last }}
            {% endfor %}
        )
    group by cell.column_name, cell.cell_value
{% endtest %}
