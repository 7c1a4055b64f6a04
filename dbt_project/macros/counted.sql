{#-
    A table of values with the number of rows that have them (`uses`), kept by adding what the studies
    that changed have now and taking off what they had. What they had stands in the fact named by
    `counted_in`, which is built after this table and still has the rows of the load before.

    A value that nobody uses any more stays, with no uses: by `load_number`, the load that last changed
    a row, the tables made from this one learn what to make anew.
-#}
{% materialization counted, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {{ run_hooks(pre_hooks) }}
    {%- set build = open_build(relation, sql) -%}
    {%- if build.since is none -%}
        {%- do build_whole(relation, numbered_rows(sql, build)) -%}
    {%- elif build.since == build.load_number -%}
        {%- do nothing_changed() -%}
    {%- else -%}
        {%- do find_changed_studies(build.since) -%}
        {%- call statement("main") -%}
            create temporary table counted_now on commit drop as ({{ of_changed_studies(sql) }});
            create temporary table counted_change on commit drop as
            select spelling_key, sum(uses) as uses
            from (
                select spelling_key, uses from pg_temp.counted_now
                union all
                select before.spelling_key, -1
                from "{{ schema_of("marts") }}".{{ config.require("counted_in") }} as before
                inner join pg_temp.changed_studies as changed on before.nct_id = changed.nct_id
            ) as entries
            group by spelling_key
            having sum(uses) <> 0;
            analyze pg_temp.counted_change;
            update {{ relation }} as kept
            set uses = kept.uses + change.uses, load_number = {{ build.load_number }}
            from pg_temp.counted_change as change
            where kept.spelling_key = change.spelling_key;
            insert into {{ relation }}
            select counted_now.*, {{ build.load_number }}
            from pg_temp.counted_now
            where not exists (
                select from {{ relation }} as kept where kept.spelling_key = counted_now.spelling_key
            )
        {%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {%- do close_build(relation, build) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}

{#- The rows of a query with the load that they stand for, if the model has a column for it. -#}
{% macro numbered_rows(sql, build) -%}
    {%- if "load_number" in model.columns -%}
        select made.*, cast({{ build.load_number }} as bigint) as load_number from ({{ sql }}) as made
    {%- else -%}
        {{ sql }}
    {%- endif -%}
{%- endmacro %}
