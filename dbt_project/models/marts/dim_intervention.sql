{{ config(indexes=[
    {"columns": ["intervention_key"], "unique": true},
    {"columns": ["intervention_type"]},
    {"columns": ["mesh_id"]},
]) }}

with

spellings as (
    select
        intervention_type,
        name,
        count(*) as uses
    from {{ ref("stg_interventions") }}
    group by intervention_type, name
),

keyed as (
    select
        {{ intervention_key() }} as intervention_key,
        *
    from spellings
),

names as (
    select distinct on (intervention_key)
        intervention_key,
        intervention_type,
        name
    from keyed
    order by intervention_key asc, uses desc, name collate "C" asc
),

headings as (
    {{ mesh_headings(ref("stg_browse_interventions")) }}
)

select
    names.intervention_key,
    names.intervention_type,
    names.name as intervention_name,
    headings.mesh_id,
    headings.mesh_term
from names
left join headings on {{ normalised(["names.name"]) }} = headings.normalised_term
