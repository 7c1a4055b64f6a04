{#-
    What each mart was built from, by which its next build knows what changed since.

    The loader numbers its loads (`staging.load_info`, `ctg_meta.loads`) and notes the studies that a
    delta replaced (`ctg_meta.changed_studies`); the table here has the load that each mart stands for.
    A build reads the load's number and the rows in one snapshot of the database, and writes the number
    in the transaction that makes the rows visible, so that the two never disagree.
-#}

{#- Run before the first model: creates the table of builds unless it is there. -#}
{% macro create_mart_builds() -%}
    do $create_mart_builds$
    begin
        if to_regclass('ctg_meta.mart_builds') is null then
            perform pg_advisory_xact_lock(hashtext('ctg_assets builds'));
            create schema if not exists ctg_meta;
            create table if not exists ctg_meta.mart_builds (
                relation text primary key,
                relation_oid oid not null,
                definition text not null,
                documentation text not null,
                load_number bigint not null,
                whole_load_number bigint not null,
                built_at timestamp with time zone not null default now()
            );
            comment on table ctg_meta.mart_builds is
            'The load that each mart stands for, and the one that it was last built from as a whole.';
        end if;
    end
    $create_mart_builds$
{%- endmacro %}

{#-
    Begin the transaction of a build. Returns what is to be done: `load_number` is the load that the
    rows will stand for (none where staging tells no number), `since` the one that they stand for now
    (none: the model is to be built whole).

    Rows of another definition, of before the last full load, or in a table that is not the one we
    left, say nothing of the next state; neither do they after `--full-refresh`.
-#}
{% macro open_build(relation, definition) -%}
    {%- call statement("isolation") -%}
        set transaction isolation level repeatable read
    {%- endcall -%}
    {%- set build = {
        "name": relation.schema ~ "." ~ relation.identifier,
        "definition": local_md5(definition ~ config.get("indexes", [])),
        "documentation": local_md5(comments_sql(relation, "table")),
        "load_number": none,
        "since": none,
        "is_documented": false,
    } -%}
    {%- call statement("numbered", fetch_result=True) -%}
        select count(*) = 2 from pg_attribute
        where attname = 'load_number' and not attisdropped
        and attrelid in (to_regclass('staging.load_info'), to_regclass('ctg_meta.loads'))
    {%- endcall -%}
    {%- if load_result("numbered").table[0][0] -%}
        {%- call statement("build", fetch_result=True) -%}
            select
                load_info.load_number,
                case when mart_builds.load_number >= (
                    select max(loads.load_number) from ctg_meta.loads where loads.kind = 'full'
                ) {{- unless_a_parent_is_newer() }} then mart_builds.load_number end as since,
                mart_builds.documentation
            from staging.load_info
            left join ctg_meta.mart_builds
                on mart_builds.relation = '{{ build.name }}'
                and mart_builds.relation_oid = to_regclass('{{ build.name }}')
                and mart_builds.definition = '{{ build.definition }}'
        {%- endcall -%}
        {%- for row in load_result("build").table -%}
            {%- do build.update({
                "load_number": row[0] | int if row[0] is not none else none,
                "since": row[1] | int if row[1] is not none and not should_full_refresh() else none,
                "is_documented": row[2] == build.documentation,
            }) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(build) }}
{%- endmacro %}

{#- That no table this model is kept from was built whole at a later load. -#}
{% macro unless_a_parent_is_newer() -%}
    {%- for name in config.get("kept_from", []) %}
        and coalesce((
            select parent.whole_load_number <= mart_builds.load_number
            from ctg_meta.mart_builds as parent
            where parent.relation = '{{ name }}' and parent.relation_oid = to_regclass('{{ name }}')
        ), false)
    {%- endfor -%}
{%- endmacro %}

{#- Record what the rows stand for now, and end the transaction. -#}
{% macro close_build(relation, build) -%}
    {%- call statement("record") -%}
        {% if build.since is not none and not build.is_documented -%}
            {{ comments_sql(relation, "table") }}
        {%- endif %}
        delete from ctg_meta.mart_builds
        where relation = '{{ build.name }}' and {{ build.load_number is none or build.since is none }};
        {% if build.load_number is not none -%}
            insert into ctg_meta.mart_builds (
                relation, relation_oid, definition, documentation, load_number, whole_load_number
            ) values (
                '{{ build.name }}', '{{ build.name }}'::regclass, '{{ build.definition }}',
                '{{ build.documentation }}', {{ build.load_number }}, {{ build.load_number }}
            )
            on conflict (relation) do update set
                documentation = excluded.documentation,
                load_number = excluded.load_number,
                built_at = excluded.built_at;
        {%- endif %}
    {%- endcall -%}
    {%- do apply_grants(relation, config.get("grants"), should_revoke=True) -%}
    {%- do adapter.commit() -%}
{%- endmacro %}

{#-
    Put a table with the rows of a query in the place of the old one, in the transaction that is open:
    readers see the old one until its end. What people built on the old table goes with it, as ever
    with dbt; a build of changes only leaves it alone.
-#}
{% macro build_whole(relation, sql) -%}
    {%- set next = make_intermediate_relation(relation) -%}
    {%- set existing = load_cached_relation(relation) -%}
    {%- call statement("leftover") -%}
        drop table if exists {{ next }} cascade
    {%- endcall -%}
    {%- call statement("main") -%}
        create table {{ next }} as ({{ sql }})
    {%- endcall -%}
    {%- call statement("replace") -%}
        {% for index in config.get("indexes", []) -%}
            {{ get_create_index_sql(next, index) }};
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

{#- Comments on a relation and its columns, as the project describes the model. -#}
{% macro comments_sql(relation, kind) -%}
    comment on {{ kind }} {{ relation }} is {{ postgres_escape_comment(model.description) }};
    {% for column in model.columns.values() -%}
        comment on column {{ relation }}.{{ adapter.quote(column.name) }}
        is {{ postgres_escape_comment(column.description) }};
    {% endfor -%}
{%- endmacro %}
