{#-
    Tests that look at rows of studies one by one need not look again at studies that have not changed
    since the test last found nothing. dbt asks `get_where_subquery` what a generic test reads, and
    when a run ends we note what its tests found.

    A test that found something reads everything each time, until it finds nothing: an unknown value
    stays a warning for as long as it is there.
-#}
{% macro get_where_subquery(relation) -%}
    {%- if not execute or not is_by_study(model) or should_full_refresh() -%}
        {{ return(default__get_where_subquery(relation)) }}
    {%- endif -%}
    {%- set since -%}
        (
            select load_number from {{ notes("passed_tests") }}
            where test = '{{ model.unique_id }}' and definition = '{{ test_definition(model) }}'
            and relation_oids = {{ relation_oids(model) }} and load_number >= {{ last_full_load() }}
        )
    {%- endset -%}
    {#- Of the two, the database executes one: the other's condition is known before any row. -#}
    (
        {{ rows_of_studies(tested_node(model), notes("changed_studies")) }}
        and changed.load_number > {{ since }}
        union all
        select tested.* from {{ relation }} as tested
        where {{ since }} is null
    ) as changed_rows
{%- endmacro %}

{#- The model or source whose rows a generic test reads. -#}
{% macro tested_node(test) -%}
    {%- set unique_id = test.attached_node or test.depends_on.nodes[0] -%}
    {{ return(graph.nodes.get(unique_id) or graph.sources[unique_id]) }}
{%- endmacro %}

{#- Whether only changes of a study can change what the test finds in the study's rows. -#}
{% macro is_by_study(test) -%}
    {%- if not test.test_metadata or test.config.where -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set node = tested_node(test) -%}
    {{ return(
        "nct_id" in node.columns
        and (node.resource_type == "source" or node.config.materialized == "by_study")
    ) }}
{%- endmacro %}

{% macro test_definition(test) -%}
    {{ return(local_md5(test.raw_code ~ test.test_metadata.kwargs)) }}
{%- endmacro %}

{#- SQL for the tables that a test reads, as they are: one that was built whole is another. -#}
{% macro relation_oids(test) -%}
    concat_ws(' ' {%- for unique_id in test.depends_on.nodes -%}
        {%- set node = graph.nodes.get(unique_id) or graph.sources[unique_id] -%}
        , to_regclass('{{ node.schema }}.{{ node.alias or node.identifier }}')::oid
    {%- endfor -%})
{%- endmacro %}

{#-
    After the last node: note the tests that found nothing, and forget those that did. They count for
    the load that was the newest when the run began: of later ones they may have seen a part.
-#}
{% macro record_tests(results) -%}
    {%- set tests = results | selectattr("node.resource_type", "equalto", "test") | list -%}
    {%- for result in tests if is_by_study(result.node) -%}
        delete from {{ notes("passed_tests") }} where test = '{{ result.node.unique_id }}';
        {% if result.failures == 0 -%}
            insert into {{ notes("passed_tests") }} (test, definition, relation_oids, load_number)
            select
                '{{ result.node.unique_id }}',
                '{{ test_definition(result.node) }}',
                {{ relation_oids(result.node) }},
                load_number
            from {{ notes("mart_runs") }} where invocation_id = '{{ invocation_id }}';
        {% endif %}
    {%- endfor -%}
    delete from {{ notes("mart_runs") }}
    where invocation_id = '{{ invocation_id }}' or started_at < now() - interval '1 week'
{%- endmacro %}
