{#-
    The monthly snapshot and the list of its months. A build replaces the rows of the month that the newest
    load speaks for: as a whole or, within a month, those of the studies that changed if rows are of
    studies. Earlier months are history, which staging does not hold: not even a full refresh touches them. Out of
    the lake's history, `ctg-assets rebuild-months` writes them by the model's own SQL.
-#}
{% materialization by_month, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks) }}
    {%- call statement("now", fetch_result=True) -%}
        set transaction isolation level repeatable read;
        select snapshot_month from ({{ sql }}) as snapshot limit 1
    {%- endcall -%}
    {%- set now = load_result("now").table | first -%}
    {#- Rows of another month are no base for this one. -#}
    {%- set build = open_build(relation, sql ~ (now[0] if now else "")) -%}
    {%- if existing is none -%}
        {%- do build_whole(relation, sql) -%}
    {%- elif build.since is none or "nct_id" not in model.columns -%}
        {%- do replace_month(relation, existing, sql) -%}
    {%- else -%}
        {%- do find_changed_studies(build.since) -%}
        {%- call statement("main") -%}
            delete from {{ relation }} as old using pg_temp.changed_studies as changed
            where old.nct_id = changed.nct_id and old.snapshot_month = '{{ now[0] }}';
            insert into {{ relation }} ({{ model.columns | join(", ") }})
            select {{ model.columns | join(", ") }} from ({{ of_changed_studies(sql) }}) as snapshot
        {%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {%- do close_build(relation, build) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}

{#- A study that left the registry since the month's last build leaves the month, too. -#}
{% macro replace_month(relation, existing, sql) -%}
    {%- set snapshot = make_temp_relation(relation) -%}
    {%- call statement("snapshot") -%}
        create temporary table {{ snapshot }} on commit drop as ({{ sql }})
    {%- endcall -%}
    {%- do process_schema_changes("append_new_columns", snapshot, existing) -%}
    {%- call statement("main") -%}
        {#- What the model has no more stays in the rows of earlier months. -#}
        {% for column in adapter.get_columns_in_relation(existing)
            if column.name not in model.columns -%}
            alter table {{ relation }} alter column {{ adapter.quote(column.name) }} drop not null;
        {% endfor -%}
        {% for column in columns_never_null() -%}
            alter table {{ relation }} alter column {{ adapter.quote(column) }} set not null;
        {% endfor -%}
        {{ comments_sql(relation, "table") }}
        delete from {{ relation }}
        where snapshot_month in (select snapshot_month from {{ snapshot }} limit 1);
        insert into {{ relation }} ({{ model.columns | join(", ") }})
        select {{ model.columns | join(", ") }} from {{ snapshot }}
    {%- endcall -%}
{%- endmacro %}
