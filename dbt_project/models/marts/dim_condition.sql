{{ config(indexes=[
    {"columns": ["condition_key"], "unique": true},
    {"columns": ["condition_name"]},
    {"columns": ["mesh_id"]},
]) }}

with

spellings as (
    select
        name,
        count(*) as uses
    from {{ ref("stg_conditions") }}
    group by name
),

keyed as (
    select
        {{ condition_key() }} as condition_key,
        *
    from spellings
),

names as (
    select distinct on (condition_key)
        condition_key,
        name
    from keyed
    order by condition_key asc, uses desc, name collate "C" asc
),

headings as (
    {{ mesh_headings(ref("stg_browse_conditions")) }}
)

select
    names.condition_key,
    names.name as condition_name,
    headings.mesh_id,
    headings.mesh_term
from names
left join headings on {{ normalised(["names.name"]) }} = headings.normalised_term
