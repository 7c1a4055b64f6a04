{% macro of_changed_studies(relation) -%}
    {%- if should_full_refresh() or not is_incremental() -%}
        {{ return(relation) }}
    {%- endif -%}
    {{ return(rows_of_studies(relation, "pg_temp.changed_studies", since(model))) }}
{%- endmacro %}

{% macro follows_studies(node) -%}
    {{ return("macro.ctg.of_changed_studies" in node.depends_on.macros) }}
{%- endmacro %}

{% macro find_changed_studies() -%}
    commit;
    begin isolation level repeatable read;
    create temporary table changed_studies on commit drop as
    select nct_id, first_id, last_id from {{ notes("changed_studies") }}
    where load_number > {{ since(model) }};
    analyze pg_temp.changed_studies
{%- endmacro %}

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
