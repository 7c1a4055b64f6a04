{{ config(indexes=[{"columns": ["name_key"], "unique": true}]) }}

-- Each MeSH heading with one descriptor id: the one used most. Records in the beta API's spelling
-- pad ids to nine digits (D000006973 for D006973), so a heading can have two.
with

term_uses as (
    select
        {{ surrogate_key(["mesh_term"]) }} as name_key,
        mesh_term,
        mesh_id,
        count(*) as uses
    from {{ ref("stg_browse_interventions") }}
    group by mesh_term, mesh_id
)

select distinct on (name_key)
    name_key,
    mesh_id,
    mesh_term
from term_uses
order by name_key asc, uses desc, mesh_id collate "C" asc, mesh_term collate "C" asc
