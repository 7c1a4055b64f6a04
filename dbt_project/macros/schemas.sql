{#-
    What our schemas are called, and whose the relations in them are. The settings of ctg_assets name the
    schemas (CTG_MARTS_SCHEMA and so on); what is ours is noted in `owned` of the schema of notes, see
    ctg_assets/warehouse/ownership.py, and nothing else is ever replaced.
-#}

{#- The name of the schema of a purpose. -#}
{% macro schema_of(purpose) -%}
    {%- set usual = {
        "staging": "staging",
        "staging_views": "staging_views",
        "intermediate": "intermediate",
        "marts": "marts",
        "meta": "ctg_meta",
    } -%}
    {{ return(env_var("CTG_" ~ (purpose | upper) ~ "_SCHEMA", usual[purpose])) }}
{%- endmacro %}

{#- A table of notes. -#}
{% macro notes(name) -%}
    {{ return('"' ~ schema_of("meta") ~ '".' ~ name) }}
{%- endmacro %}

{#- The table with one row on what is loaded. -#}
{% macro load_info() -%}
    {{ return('"' ~ schema_of("staging") ~ '".load_info') }}
{%- endmacro %}

{#- Take the schemas that models are built in, if they are empty or ours; end the run if they are not. -#}
{% macro claim_schemas() -%}
    do $claim$
    declare
        strange text;
    begin
        create temporary table wanted_schemas on commit drop as
        select n.oid, n.nspname, w.purpose
        from (values
            {%- for purpose in ["staging_views", "intermediate", "marts"] %}
            ('{{ purpose }}', '{{ schema_of(purpose) }}') {{- "," if not loop.last }}
            {%- endfor %}
        ) as w (purpose, nspname)
        inner join pg_namespace as n on n.nspname = w.nspname;
        insert into {{ notes("owned") }} (schema_name, name, purpose, oid)
        select w.nspname, '', w.purpose, w.oid from pg_temp.wanted_schemas as w
        where not exists (
            select from pg_depend as d
            where d.refclassid = 'pg_namespace'::regclass and d.refobjid = w.oid and d.deptype = 'n'
        )
        on conflict (schema_name, name) do update set purpose = excluded.purpose, oid = excluded.oid;
        select string_agg(w.nspname || ' (CTG_' || upper(w.purpose) || '_SCHEMA)', ', ') into strange
        from pg_temp.wanted_schemas as w
        where not exists (
            select from {{ notes("owned") }} as o
            where o.schema_name = w.nspname and o.name = '' and o.oid = w.oid
        );
        if strange is not null then
            raise exception 'not made by ctg_assets, and left alone: schema %. %', strange,
                'Set the variable to the name of another schema, or drop the schema if nobody needs it.';
        end if;
    end
    $claim$;
{%- endmacro %}

{#- End the run if what has the name of a model is somebody else's. -#}
{% macro require_own(relation) -%}
    {%- call statement("strange", fetch_result=True) -%}
        select c.relname from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = '{{ relation.schema }}' and c.relname = '{{ relation.identifier }}'
        and not exists (
            select from {{ notes("owned") }} as o
            where o.schema_name = n.nspname and o.name = c.relname and o.oid = c.oid
        )
    {%- endcall -%}
    {%- if load_result("strange").table | length > 0 -%}
        {{ exceptions.raise_compiler_error(
            relation.schema ~ "." ~ relation.identifier ~ " would be replaced, but was not made by "
            ~ "ctg_assets, and was left alone. Rename it, move it into another schema, or set other schemas "
            ~ "(CTG_MARTS_SCHEMA, ...)."
        ) }}
    {%- endif -%}
{%- endmacro %}

{#- Note, in the transaction that is open, that a relation is ours. -#}
{% macro note_own(relation) -%}
    insert into {{ notes("owned") }} (schema_name, name, purpose, oid)
    select n.nspname, c.relname, 'relation', c.oid
    from pg_class as c inner join pg_namespace as n on c.relnamespace = n.oid
    where n.nspname = '{{ relation.schema }}' and c.relname = '{{ relation.identifier }}'
    on conflict (schema_name, name) do update set purpose = excluded.purpose, oid = excluded.oid;
{%- endmacro %}
