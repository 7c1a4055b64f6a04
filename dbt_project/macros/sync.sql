{% macro get_incremental_sync_sql(arguments) -%}
    {%- set target, made = arguments.target_relation, arguments.temp_relation -%}
    {%- set columns = arguments.dest_columns | map(attribute="quoted") | list -%}
    {%- set key = adapter.quote(arguments.unique_key) -%}
    {%- set reached = ["true"] if not follows_studies(model) else [
        since(model) ~ " is null",
        "old.nct_id in (select changed.nct_id from pg_temp.changed_studies as changed)",
    ] -%}
    analyze {{ made }};
    {% for condition in reached -%}
        delete from {{ target }} as old
        where {{ condition }} and not exists (
            select from {{ made }} as made where made.{{ key }} = old.{{ key }}
            and (made.{{ columns | join(", made.") }})
            is not distinct from (old.{{ columns | join(", old.") }})
        );
    {% endfor -%}
    insert into {{ target }} ({{ columns | join(", ") }})
    select {{ columns | join(", ") }} from {{ made }} as made
    where not exists (select from {{ target }} as kept where kept.{{ key }} = made.{{ key }})
{%- endmacro %}
