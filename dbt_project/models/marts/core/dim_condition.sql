{{ config(
    unique_key="condition_key",
    indexes=[
        {"columns": ["condition_key"], "unique": true},
        {"columns": ["condition_name"], "type": "spgist"},
        {"columns": ["mesh_id"], "type": "spgist"},
    ],
) }}

with

-- Each spelling with the number of entries that have it, and one of these.
spelling_uses as (
    select
        condition_key,
        min(study_condition_id) as entry_id,
        count(*) as uses
    from {{ ref("fct_study_condition") }}
    group by condition_key, spelling_key
),

spellings as (
    select
        spelling_uses.condition_key,
        spelling_uses.uses,
        entries.name
    from spelling_uses
    inner join {{ ref("stg_conditions") }} as entries on spelling_uses.entry_id = entries.id
),

names as (
    select distinct on (condition_key)
        condition_key,
        name
    from spellings
    order by condition_key asc, uses desc, name collate "C" asc
),

headings as (
    select * from {{ ref("int_condition_headings") }}
)

select
    names.condition_key,
    names.name as condition_name,
    headings.mesh_id,
    headings.mesh_term
from names
left join headings on {{ surrogate_key(["names.name"]) }} = headings.name_key
