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

{% macro note_load() -%}
    {% if not is_incremental() -%}
        {#- What a test says of single values is a constraint, which holds at every moment. One statement reads the table once. -#}
        {%- set held = [] -%}
        {%- for test in graph.nodes.values() | selectattr("attached_node", "equalto", model.unique_id) if test.config.severity | lower == "error" -%}
            {%- set name, column = test.test_metadata.name, adapter.quote(test.column_name) -%}
            {%- if name == "not_null" -%}
                {%- do held.append("alter column " ~ column ~ " set not null") -%}
            {%- elif name == "accepted_values" -%}
                {%- do held.append("add check (" ~ column ~ " in ('" ~ test.test_metadata.kwargs["values"] | map("replace", "'", "''") | join("', '") ~ "'))") -%}
            {%- endif -%}
        {%- endfor -%}
        {{ "alter table " ~ this ~ " " ~ held | join(", ") ~ ";" if held }}
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

{% macro get_where_subquery(relation) -%}
    {%- if not execute or should_full_refresh() or not is_test_of_studies(model) -%}
        {{ return(default__get_where_subquery(relation)) }}
    {%- endif -%}
    {%- set changed -%}
        (select * from {{ notes("changed_studies") }} where load_number > {{ since(model) }})
    {%- endset -%}
    {{ return(rows_of_studies(relation, changed, since(model))) }}
{%- endmacro %}

{% macro is_test_of_studies(test) -%}
    {%- set tested = test.attached_node or test.depends_on.nodes | first -%}
    {%- set source = graph.sources.get(tested, {}) -%}
    {{ return(
        test.test_metadata and not test.config.where
        and ("nct_id" in source.columns if source else follows_studies(graph.nodes[tested]))
    ) }}
{%- endmacro %}

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
