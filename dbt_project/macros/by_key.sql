{#-
    A dimension over values: its rows depend on the spellings of one `key`, and on a table of names if
    there is one. Of both parents the rows tell which load changed them; the keys concerned are deleted
    and made anew by the model's own SQL on their spellings alone.
-#}
{% materialization by_key, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {%- set key = config.require("key") -%}
    {{ run_hooks(pre_hooks) }}
    {%- set build = open_build(relation, sql) -%}
    {%- if build.since is none -%}
        {%- do build_whole(relation, sql) -%}
    {%- elif build.since == build.load_number -%}
        {%- do nothing_changed() -%}
    {%- else -%}
        {%- set spellings = parents_kept() | selectattr("columns." ~ key, "defined") | first -%}
        {%- call statement("main") -%}
            create temporary table changed_keys on commit drop as
            select {{ key }} from {{ spellings.relation_name }}
            where load_number > {{ build.since }}
            {% for parent in parents_kept() if key not in parent.columns -%}
                union all
                select spellings.{{ key }}
                from {{ parent.relation_name }} as parent
                inner join {{ spellings.relation_name }} as spellings
                    on parent.name_key = spellings.name_key
                where parent.load_number > {{ build.since }}
            {% endfor -%};
            analyze pg_temp.changed_keys;
            create temporary table spellings__changed on commit drop as
            select * from {{ spellings.relation_name }}
            where {{ key }} in (select {{ key }} from pg_temp.changed_keys);
            delete from {{ relation }}
            where {{ key }} in (select {{ key }} from pg_temp.changed_keys);
            insert into {{ relation }}
            {{ sql | replace(spellings.relation_name, "pg_temp.spellings__changed") }}
        {%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {%- do close_build(relation, build) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}

{#- The parents of the model whose rows tell which load changed them. -#}
{% macro parents_kept() -%}
    {%- set parents = [] -%}
    {%- for unique_id in model.depends_on.nodes -%}
        {%- set parent = graph.nodes.get(unique_id) -%}
        {%- if parent and parent.config.materialized in ["counted", "compared"] -%}
            {%- do parents.append(parent) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(parents) }}
{%- endmacro %}
