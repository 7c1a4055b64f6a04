{#-
    Watermarks: the load that each mart stands for, and the one at which each test of studies found nothing.
    The loader numbers its loads (`loads`, `load_info`) and notes which studies they replaced
    (`changed_studies`). A mart's watermark is written with its rows, in one transaction.
-#}

{#- The load of a node's watermark, as SQL; NULL if its SQL was another, or a load since replaced everything. -#}
{% macro since(node) -%}
    (
        select mark.load_number from {{ notes("watermarks") }} as mark
        where mark.node = '{{ node.unique_id }}' and mark.definition = '{{ definition(node) }}'
        and mark.load_number >= (select max(l.load_number) from {{ notes("loads") }} as l where l.kind = 'full')
    )
{%- endmacro %}

{% macro definition(node) -%}
    {{ return(local_md5(node.raw_code ~ (node.test_metadata.kwargs if node.test_metadata))) }}
{%- endmacro %}

{#- After a build: what its rows stand for, which is no more than what the marts that it read stand for. -#}
{% macro note_load() -%}
    {% if not is_incremental() -%}
        {#- What a test says is never missing is a constraint, which holds at every moment. -#}
        {% for test in graph.nodes.values() | selectattr("attached_node", "equalto", model.unique_id)
            if test.test_metadata.name == "not_null" and test.config.severity | lower == "error" -%}
            alter table {{ this }} alter column {{ adapter.quote(test.column_name) }} set not null;
        {% endfor -%}
        {#- At once, since the next model joins this one before autovacuum comes round. #}
        analyze {{ this }};
    {%- endif %}
    insert into {{ notes("watermarks") }} (node, definition, load_number)
    select '{{ model.unique_id }}', '{{ definition(model) }}', least(load_number, (
        select min(parent.load_number) from {{ notes("watermarks") }} as parent
        where parent.node in ('{{ model.depends_on.nodes | join("', '") }}')
    ))
    from {{ notes("load_info", "staging") }} where load_number is not null
    on conflict (node) do update set
        definition = excluded.definition, load_number = excluded.load_number, noted_at = now()
{%- endmacro %}

{#-
    What a generic test reads, as dbt asks: studies that have not changed since the test found nothing are
    left out. One that found something reads every row until it finds nothing, so that a warning stays.
-#}
{% macro get_where_subquery(relation) -%}
    {%- if not execute or should_full_refresh() or not is_test_of_studies(model) -%}
        {{ return(default__get_where_subquery(relation)) }}
    {%- endif -%}
    {%- set changed -%}
        (select * from {{ notes("changed_studies") }} where load_number > {{ since(model) }})
    {%- endset -%}
    {{ return(rows_of_studies(relation, changed, since(model))) }}
{%- endmacro %}

{#- Whether only changes of a study can change what the test finds in the study's rows. -#}
{% macro is_test_of_studies(test) -%}
    {%- set tested = test.attached_node or test.depends_on.nodes | first -%}
    {%- set source = graph.sources.get(tested, {}) -%}
    {{ return(
        test.test_metadata and not test.config.where
        and ("nct_id" in source.columns if source else follows_studies(graph.nodes[tested]))
    ) }}
{%- endmacro %}

{#- After the last node. Tests count for the load that was the newest when the run began: they may have
    seen a part of later ones. -#}
{% macro end_run(results) -%}
    {%- for result in results if result.node.resource_type == "test" and is_test_of_studies(result.node) -%}
        delete from {{ notes("watermarks") }} where node = '{{ result.node.unique_id }}';
        insert into {{ notes("watermarks") }} (node, definition, load_number)
        select '{{ result.node.unique_id }}', '{{ definition(result.node) }}', load_number
        from {{ notes("watermarks") }} where node = '{{ invocation_id }}' and {{ result.failures == 0 }};
    {% endfor -%}
    delete from {{ notes("watermarks") }}
    where node = '{{ invocation_id }}' or (definition = 'run' and noted_at < now() - interval '1 week')
{%- endmacro %}
