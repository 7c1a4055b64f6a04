{#-
    A table whose rows each belong to one study, and depend only on the rows that the parents have of
    that study. Built whole once; then the rows of the studies that changed are deleted and made anew,
    by the model's own SQL on parents cut down to those studies. So a model says once what its rows are.
-#}
{% materialization by_study, adapter="postgres" %}
    {%- set relation = this.incorporate(type="table") -%}
    {{ run_hooks(pre_hooks) }}
    {%- set build = open_build(relation, sql) -%}
    {%- if build.since is none -%}
        {%- do build_whole(relation, sql) -%}
    {%- elif build.since == build.load_number -%}
        {%- do nothing_changed() -%}
    {%- else -%}
        {%- do find_changed_studies(build.since) -%}
        {%- call statement("main") -%}
            delete from {{ relation }} as old using pg_temp.changed_studies as changed
            where old.nct_id = changed.nct_id;
            insert into {{ relation }} {{ of_changed_studies(sql) }}
        {%- endcall -%}
    {%- endif -%}
    {{ run_hooks(post_hooks) }}
    {%- do close_build(relation, build) -%}
    {{ return({"relations": [relation]}) }}
{% endmaterialization %}

{#-
    Make the table of the studies that changed since a load, and of each parent of the model a view
    on their rows; all end with the transaction.
-#}
{% macro find_changed_studies(since) -%}
    {%- call statement("changed") -%}
        create temporary table changed_studies on commit drop as
        select nct_id, first_id, last_id from {{ notes("changed_studies") }}
        where load_number > {{ since }};
        analyze pg_temp.changed_studies;
        {% for parent in parents_by_study() -%}
            create temporary view {{ parent.name }}__changed as
            {{ rows_of_studies(parent, "pg_temp.changed_studies") }};
        {% endfor -%}
    {%- endcall -%}
{%- endmacro %}

{#-
    The rows that a model or source has of the studies in a table of them.

    They are found by their key, which begins with the study's number: the primary key is a B-tree,
    while `nct_id` has a block range index only, which would be read in full for every study. The
    planner takes such a range for a ninth of the table and would rather read all of it; it does not look
    behind `offset 0`, and comparing `nct_id` as well tells it how few rows there are.
-#}
{% macro rows_of_studies(node, studies) -%}
    {% if "id" in node.columns -%}
        select of_study.* from {{ studies }} as changed
        cross join lateral (
            select * from {{ node.relation_name }} as every_row
            where every_row.id between changed.first_id and changed.last_id
            offset 0
        ) as of_study
        where of_study.nct_id = changed.nct_id
    {%- else -%}
        select of_study.* from {{ studies }} as changed
        inner join {{ node.relation_name }} as of_study on of_study.nct_id = changed.nct_id
    {%- endif %}
{%- endmacro %}

{#- The SQL of a model on its parents' rows of changed studies. -#}
{% macro of_changed_studies(sql) -%}
    {%- set restricted = namespace(sql=sql) -%}
    {%- for parent in parents_by_study() -%}
        {%- set restricted.sql = restricted.sql
            | replace(parent.relation_name, "pg_temp." ~ parent.name ~ "__changed") -%}
    {%- endfor -%}
    {{ restricted.sql }}
{%- endmacro %}

{#- The parents of the model whose rows belong to studies. -#}
{% macro parents_by_study() -%}
    {%- set parents = [] -%}
    {%- for unique_id in model.depends_on.nodes -%}
        {%- set parent = graph.nodes.get(unique_id) or graph.sources[unique_id] -%}
        {%- if parent.relation_name is not none and "nct_id" in parent.columns -%}
            {%- do parents.append(parent) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(parents) }}
{%- endmacro %}
