{#-
    What a mart reads instead of a table or view with `nct_id`:

        from {{ of_changed_studies(ref("stg_conditions")) }}

    In the first build and in one with `--full-refresh` that is every row. Later it is the rows of the
    studies that changed since the last build, and the mart's rows of those studies are replaced. A mart
    may do so if each of its rows belongs to a study and depends on the rows of that study alone.
-#}
{% macro of_changed_studies(relation) -%}
    {%- if should_full_refresh() or not is_incremental() -%}
        {{ return(relation) }}
    {%- endif -%}
    {{ return(rows_of_studies(relation, "pg_temp.changed_studies", since(model))) }}
{%- endmacro %}

{% macro follows_studies(node) -%}
    {{ return("macro.ctg.of_changed_studies" in node.depends_on.macros) }}
{%- endmacro %}

{#- Before a build: the studies that changed, in a transaction that sees one state whatever loads go on. -#}
{% macro find_changed_studies() -%}
    commit;
    begin isolation level repeatable read;
    create temporary table changed_studies on commit drop as
    select nct_id, first_id, last_id from {{ notes("changed_studies") }}
    where load_number > {{ since(model) }};
    analyze pg_temp.changed_studies
{%- endmacro %}

{#-
    The rows that a relation has of the studies in a table of them; every row if `since` is NULL.

    They are found by their key, which begins with the study's number: the primary key is a B-tree,
    while `nct_id` has a block range index only, which would be read in full for every study. The
    planner takes such a range for a ninth of the table and would rather read all of it; it does not look
    behind `offset 0`, and comparing `nct_id` as well tells it how few rows there are.
-#}
{% macro rows_of_studies(relation, studies, since) -%}
    {%- set nodes = graph.nodes.values() | list + graph.sources.values() | list -%}
    {%- set node = nodes | selectattr("relation_name", "equalto", relation | string) | first -%}
    (
        select every_study.* from {{ relation }} as every_study where {{ since }} is null
        union all
        select of_study.* from {{ studies }} as changed
        {% if "id" in node.columns -%}
            cross join lateral (
                select * from {{ relation }} as every_study
                where every_study.id between changed.first_id and changed.last_id
                offset 0
            ) as of_study
            where of_study.nct_id = changed.nct_id
        {%- else -%}
            inner join {{ relation }} as of_study on changed.nct_id = of_study.nct_id
        {%- endif %}
    ) as {{ relation.identifier }}
{%- endmacro %}
