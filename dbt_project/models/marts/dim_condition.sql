{{ config(
    key="condition_key",
    materialized="by_key",
    indexes=[
        {"columns": ["condition_key"], "unique": true},
        {"columns": ["condition_name"], "type": "spgist"},
        {"columns": ["mesh_id"], "type": "spgist"},
    ],
) }}

with

names as (
    select distinct on (condition_key)
        condition_key,
        name_key,
        name
    from {{ ref("int_condition_spellings") }}
    where uses > 0
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
left join headings on names.name_key = headings.name_key
