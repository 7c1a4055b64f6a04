{{ config(
    key="intervention_key",
    materialized="by_key",
    indexes=[
        {"columns": ["intervention_key"], "unique": true},
        {"columns": ["intervention_type"], "type": "spgist"},
        {"columns": ["mesh_id"], "type": "spgist"},
    ],
) }}

with

names as (
    select distinct on (intervention_key)
        intervention_key,
        name_key,
        intervention_type,
        name
    from {{ ref("int_intervention_spellings") }}
    where uses > 0
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
left join headings on names.name_key = headings.name_key
