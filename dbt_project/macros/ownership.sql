{#-
    What our schemas are called, and whose they are: the settings of ctg_assets name them, and nothing is
    replaced but what it has noted as its own (see ctg_assets/postgres/dbt_functions.py).
-#}
{% macro schema_of(purpose) -%}
    {{ return(env_var("CTG_" ~ (purpose | upper) ~ "_SCHEMA", "ctg_meta" if purpose == "meta" else purpose)) }}
{%- endmacro %}

{#- A table or function of our notes, or of another schema of ours. -#}
{% macro notes(name, purpose="meta") -%}
    {{ return('"' ~ schema_of(purpose) ~ '".' ~ name) }}
{%- endmacro %}

{#- Before the first node: end the run if a schema or relation of ours is somebody else's. -#}
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

{#- After a build, in its transaction: the relation is ours, and a view stays the one that others lie on. -#}
{% macro note_own() -%}
    select {{ notes("keep_view" if model.config.materialized == "view" else "note_own") }}(
        '{{ this.schema }}', '{{ this.identifier }}'
    )
{%- endmacro %}
