{% macro schema_of(purpose) -%}
    {{ return(env_var("CTG_" ~ (purpose | upper) ~ "_SCHEMA", "ctg_meta" if purpose == "meta" else purpose)) }}
{%- endmacro %}

{% macro notes(name, purpose="meta") -%}
    {{ return('"' ~ schema_of(purpose) ~ '".' ~ name) }}
{%- endmacro %}

{% macro begin_run() -%}
    {%- set models = graph.nodes.values() | selectattr("resource_type", "in", ["model", "seed"]) -%}
    select {{ notes("require_ours") }}(
        {%- for purpose in ["staging_views", "intermediate", "marts"] %}
        '{{ purpose }}', '{{ schema_of(purpose) }}',
        {%- endfor %}
        array['{{ models | map(attribute="alias") | join("', '") }}']
    );
    insert into {{ notes("watermarks") }} (node, definition, load_number)
    select '{{ invocation_id }}', 'run', load_number from {{ notes("load_info", "staging") }} where load_number is not null
{%- endmacro %}

{% macro note_own() -%}
    select {{ notes("keep_view" if model.config.materialized == "view" else "note_own") }}(
        '{{ this.schema }}', '{{ this.identifier }}'
    )
{%- endmacro %}
