{#-
    A small table that is computed whole each time; only rows that differ are replaced, so that readers
    and whatever people built on it are left alone. One row for each value of `key`.

    With a column `load_number`, rows say which load last changed them, and a row that is gone stays
    with its key alone.
-#}
{% materialization compared, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set key = config.require("key") -%}
    {{ run_hooks(pre_hooks) }}
    {%- set build = open_build(relation, sql) -%}
    {%- if build.since is none -%}
        {%- do build_whole(relation, numbered_rows(sql, build)) -%}
    {%- elif build.since == build.load_number -%}
        {%- do nothing_changed() -%}
    {%- else -%}
        {%- set columns = model.columns | reject("in", [key, "load_number"]) | list -%}
        {%- call statement("main") -%}
            create temporary table found on commit drop as ({{ sql }});
            create temporary table differing on commit drop as
            select {{ key }}, found.{{ key }} is not null as is_found
            from found
            full outer join {{ relation }} as kept using ({{ key }})
            where (found.{{ columns | join(", found.") }})
            is distinct from (kept.{{ columns | join(", kept.") }});
            delete from {{ relation }} as kept using differing
            where kept.{{ key }} = differing.{{ key }};
            insert into {{ relation }} ({{ key }}, {{ columns | join(", ") }}
                {{- ", load_number" if "load_number" in model.columns }})
            select {{ key }}, {{ columns | join(", ") }}
                {{- ", " ~ build.load_number if "load_number" in model.columns }}
            from differing
            left join found using ({{ key }})
            {{ "where differing.is_found" if "load_number" not in model.columns }}
        {%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {%- do close_build(relation, build) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}
