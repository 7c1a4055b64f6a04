{#-
    Views in one round trip, and without a trace where nothing changed. dbt's own way makes a second
    view, renames both, asks twice for columns to comment on, and drops the first with everything that
    depends on it: nine round trips, three times as long, for each of some seventy views at every
    build, and the views that people made on ours would be gone.

    Only a view that lost or moved columns cannot be replaced: it is dropped, and where somebody's view lies
    on it, Postgres refuses and names that. One that is as we left it is left alone; a full load makes views again, which are then made anew once.
-#}
{% materialization view, adapter="postgres" %}
    {%- set target_relation = this.incorporate(type="view") -%}
    {%- set name = this.schema ~ "." ~ this.identifier -%}
    {%- set definition = local_md5(sql) -%}
    {{ run_hooks(pre_hooks) }}
    {% call statement("main", fetch_result=True) %}
        select true as is_as_it_was from {{ notes("mart_builds") }}
        where relation = '{{ name }}' and relation_oid = to_regclass('{{ name }}')
        and definition = '{{ definition }}' and documentation = '{{ documentation() }}'
    {% endcall %}
    {% if should_full_refresh() or load_result("main").table | length == 0 %}
        {% do require_own(target_relation) %}
        {% call statement("main") %}
            do $build_view$
            begin
                {{ create_or_replace_view_sql(target_relation, sql) }}
            exception when invalid_table_definition then
                drop view {{ target_relation }};
                {{ create_or_replace_view_sql(target_relation, sql) }}
            end
            $build_view$;
            {{ comments_sql(target_relation, "view") }}
            {{ note_own(target_relation) }}
            insert into {{ notes("mart_builds") }} (relation, relation_oid, definition, documentation)
            values ('{{ name }}', '{{ name }}'::regclass, '{{ definition }}', '{{ documentation() }}')
            on conflict (relation) do update set
                relation_oid = excluded.relation_oid,
                definition = excluded.definition,
                documentation = excluded.documentation,
                built_at = excluded.built_at
        {% endcall %}
    {% endif %}
    {% do apply_grants(target_relation, config.get("grants"), should_revoke=True) %}
    {{ run_hooks(post_hooks) }}
    {{ adapter.commit() }}
    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}

{% macro create_or_replace_view_sql(relation, sql) -%}
    create or replace view {{ relation }} as (
    {{ sql }}
    );
{%- endmacro %}
