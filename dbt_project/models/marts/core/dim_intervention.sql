{{ config(
    unique_key="intervention_key",
    indexes=[
        {"columns": ["intervention_key"], "unique": true},
        {"columns": ["intervention_type"], "type": "spgist"},
        {"columns": ["mesh_id"], "type": "spgist"},
    ],
) }}

with

-- Each spelling with the number of entries that have it, and one of these.
spelling_uses as (
    select
        intervention_key,
        min(study_intervention_id) as entry_id,
        count(*) as uses
    from {{ ref("fct_study_intervention") }}
    group by intervention_key, spelling_key
),

spellings as (
    select
        spelling_uses.intervention_key,
        spelling_uses.uses,
        entries.intervention_type,
        entries.name
    from spelling_uses
    inner join {{ ref("stg_interventions") }} as entries on spelling_uses.entry_id = entries.id
),

names as (
    select distinct on (intervention_key)
        intervention_key,
        intervention_type,
        name
    from spellings
    order by intervention_key asc, uses desc, name collate "C" asc
),

headings as (
    select * from {{ ref("int_intervention_headings") }}
)

select
    names.intervention_key,
    names.intervention_type,
    names.name as intervention_name,
    headings.mesh_id,
    headings.mesh_term
from names
left join headings on {{ surrogate_key(["names.name"]) }} = headings.name_key
