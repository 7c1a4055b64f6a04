{#-
    As dbt's own test of this name, but each value is looked up once: told how few there are, the planner finds
    those of changed studies by an index, 0.06 s of 600,000 studies instead of 0.5 s.
-#}
{% test relationships(model, column_name, to, field) %}
    select child.from_field
    from (
        select distinct {{ column_name }} as from_field
        from {{ model }}
        where {{ column_name }} is not null
    ) as child
    left join {{ to }} as parent on child.from_field = parent.{{ field }}
    where parent.{{ field }} is null
{% endtest %}
