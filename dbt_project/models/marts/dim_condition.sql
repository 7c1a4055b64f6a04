{{ config(indexes=[
    {"columns": ["condition_key"], "unique": true},
    {"columns": ["condition_name"]},
    {"columns": ["mesh_id"]},
]) }}

with

spellings as (
    select
        condition_name,
        count(*) as uses
    from {{ ref("stg_conditions") }}
    group by condition_name
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
        condition_name
    from keyed
    order by condition_key asc, uses desc, condition_name collate "C" asc
),

headings as (
    {{ mesh_headings(ref("stg_browse_conditions")) }}
)

select
    names.condition_key,
    names.condition_name,
    headings.mesh_id,
    headings.mesh_term
from names
left join headings on {{ normalised(["names.condition_name"]) }} = headings.normalised_term
