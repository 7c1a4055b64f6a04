{#-
    What each mart was built from, by which its next build knows what changed since.

    The loader numbers its loads (`load_info`, `loads`) and notes the studies that a delta replaced
    (`changed_studies`); `mart_builds` has the load that each mart stands for.
    A build reads the load's number and the rows in one snapshot of the database, and writes the number
    in the transaction that makes the rows visible, so that the two never disagree.
-#}

{#- Before the first node: whether we may build, and which load is the newest. -#}
{% macro begin_run() -%}
    {{ claim_schemas() }}
    insert into {{ notes("mart_runs") }} (invocation_id, load_number)
    select '{{ invocation_id }}', load_number from {{ load_info() }}
{%- endmacro %}

{#- The last load that may have changed any row, as SQL. -#}
{% macro last_full_load() -%}
    (select max(loads.load_number) from {{ notes("loads") }} where loads.kind = 'full')
{%- endmacro %}

{#-
    Begin the transaction of a build, which sees one state of the database whatever loads go on.
    Returns what is to be done: `load_number` is the load that the rows will stand for, `since` the one
    that they stand for now (none: the model is to be built whole).

    Rows of another definition, of before the last full load, or in a table that is not the one we
    left, say nothing of the next state; neither do they after `--full-refresh`.
-#}
{% macro open_build(relation, definition) -%}
    {%- set build = {
        "name": relation.schema ~ "." ~ relation.identifier,
        "definition": local_md5(definition ~ config.get("indexes", []) ~ columns_never_null()),
        "documentation": documentation(),
    } -%}
    {%- call statement("build", fetch_result=True) -%}
        set transaction isolation level repeatable read;
        select
            load_info.load_number,
            case when mart_builds.load_number >= {{ last_full_load() }}
            {{- unless_parents_forbid() }} then mart_builds.load_number end as since,
            mart_builds.documentation
        from {{ load_info() }}
        left join {{ notes("mart_builds") }}
            on {{ is_build_of("mart_builds", build.name) }}
            and mart_builds.definition = '{{ build.definition }}'
    {%- endcall -%}
    {%- set row = load_result("build").table[0] -%}
    {%- do require_own(relation) -%}
    {%- do build.update({
        "load_number": row[0] | int,
        "since": row[1] | int if row[1] is not none and not should_full_refresh() else none,
        "is_documented": row[2] == build.documentation,
    }) -%}
    {{ return(build) }}
{%- endmacro %}

{#-
    That the tables this model is kept from allow it: none was built whole at a later load, and the fact
    that tells what studies had before stands for the same load as this model.
-#}
{% macro unless_parents_forbid() -%}
    {%- for parent in parents_kept() %}
        and exists (
            select from {{ notes("mart_builds") }} as parent
            where {{ is_build_of("parent", parent.schema ~ "." ~ parent.alias) }}
            and parent.whole_load_number <= mart_builds.load_number
        )
    {%- endfor -%}
    {%- if config.get("counted_in") %}
        and exists (
            select from {{ notes("mart_builds") }} as fact
            where {{ is_build_of("fact", schema_of("marts") ~ "." ~ config.get("counted_in")) }}
            and (fact.load_number = mart_builds.load_number
                or mart_builds.load_number = load_info.load_number)
        )
    {%- endif -%}
{%- endmacro %}

{% macro is_build_of(alias, name) -%}
    {{ alias }}.relation = '{{ name }}' and {{ alias }}.relation_oid = to_regclass('{{ name }}')
{%- endmacro %}

{#- A digest of what the project says about the model. -#}
{% macro documentation() -%}
    {{ return(local_md5(model.description ~ model.columns)) }}
{%- endmacro %}

{#- Record what the rows stand for now, and end the transaction. -#}
{% macro close_build(relation, build) -%}
    {%- call statement("record") -%}
        {{ note_own(relation) }}
        {% if build.since is none -%}
            delete from {{ notes("mart_builds") }} where relation = '{{ build.name }}';
        {%- elif not build.is_documented -%}
            {{ comments_sql(relation, "table") }}
        {%- endif %}
        insert into {{ notes("mart_builds") }} (
            relation, relation_oid, definition, documentation, load_number, whole_load_number
        ) values (
            '{{ build.name }}', '{{ build.name }}'::regclass, '{{ build.definition }}',
            '{{ build.documentation }}', {{ build.load_number }}, {{ build.load_number }}
        )
        on conflict (relation) do update set
            documentation = excluded.documentation,
            load_number = excluded.load_number,
            built_at = excluded.built_at
    {%- endcall -%}
    {%- do apply_grants(relation, config.get("grants"), should_revoke=True) -%}
    {%- do adapter.commit() -%}
{%- endmacro %}

{% macro nothing_changed() -%}
    {%- call statement("main") -%}
        select 'nothing changed' as result
    {%- endcall -%}
{%- endmacro %}

{#-
    Put a table with the rows of a query in the place of the old one, in the transaction that is open:
    readers see the old one until its end. What people built on the old table goes with it, as ever
    with dbt; a build of changes only leaves it alone.
-#}
{% macro build_whole(relation, sql) -%}
    {%- set next = make_intermediate_relation(relation) -%}
    {%- set existing = load_cached_relation(relation) -%}
    {%- call statement("main") -%}
        create table {{ next }} as ({{ sql }})
    {%- endcall -%}
    {%- call statement("replace") -%}
        {% for index in config.get("indexes", []) -%}
            {{ get_create_index_sql(next, index) }};
        {% endfor -%}
        {% for column in columns_never_null() -%}
            alter table {{ next }} alter column {{ adapter.quote(column) }} set not null;
        {% endfor -%}
        {{ comments_sql(next, "table") }}
        {#- At once, since the next model joins this one before autovacuum comes round. #}
        analyze {{ next }};
        {% if existing is not none -%}
            drop {{ existing.type | replace("_", " ") }} {{ existing }} cascade;
        {% endif -%}
        alter table {{ next }} rename to {{ adapter.quote(relation.identifier) }};
    {%- endcall -%}
{%- endmacro %}

{#-
    The columns that a test says are never missing. As constraints of the table they hold at every
    moment, and a build of changes need not look at all rows again.
-#}
{% macro columns_never_null() -%}
    {%- set columns = [] -%}
    {%- for node in graph.nodes.values() -%}
        {%- if node.resource_type == "test" and node.attached_node == model.unique_id
            and node.test_metadata.name == "not_null" and node.config.severity | lower == "error" -%}
            {%- do columns.append(node.column_name) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(columns) }}
{%- endmacro %}

{#- Comments on a relation and its columns, as the project describes the model. -#}
{% macro comments_sql(relation, kind) -%}
    comment on {{ kind }} {{ relation }} is {{ postgres_escape_comment(model.description) }};
    {% for column in model.columns.values() -%}
        comment on column {{ relation }}.{{ adapter.quote(column.name) }}
        is {{ postgres_escape_comment(column.description) }};
    {% endfor -%}
{%- endmacro %}
