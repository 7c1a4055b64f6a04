{{ config(materialized="ephemeral") }}

{%- set estimates = api.Relation.create(
    database=target.database,
    schema=env_var("CTG_WHO_SCHEMA", "who"),
    identifier="global_health_estimates",
) %}
{%- set is_there = execute and load_relation(estimates) is not none %}
{%- set columns = {
    "release": "text", "country_code": "text", "year": "integer", "cause_code": "integer",
    "cause_title": "text", "population": "double precision", "deaths": "double precision",
    "deaths_low": "double precision", "deaths_high": "double precision",
    "deaths_per_100k": "double precision", "dalys": "double precision",
    "dalys_low": "double precision", "dalys_high": "double precision",
    "dalys_per_100k": "double precision", "ylls": "double precision", "ylds": "double precision",
    "source": "text", "licence": "text", "sex": "text", "age_group": "text",
} %}

-- Both sexes and all ages, of the newest release that has the country's year. The schema is there
-- once that source was loaded; without it there are no rows, so that the project builds.
with

estimates as (
    select
        {% for name, type in columns.items() -%}
            cast({{ name if is_there else "null" }} as {{ type }}) as {{ name }}
            {{- "," if not loop.last }}
        {% endfor %}
    {{ "from " ~ estimates if is_there else "where false" }}
),

totals as (
    select
        *,
        max(release collate "C") over (partition by country_code, year) as newest_release
    from estimates
    where sex = 'TOTAL' and age_group = 'TOTAL'
)

select * from totals
where release = newest_release
