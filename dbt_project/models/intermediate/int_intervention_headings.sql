{{ config(indexes=[{"columns": ["name_key"], "unique": true}]) }}

-- Each MeSH heading with one descriptor id. Records in the beta API's spelling pad all ids to nine
-- digits (D000006973 for D006973), so a heading can have two. MeSH's own ids have six digits, nine
-- those that are newer than 2013, and never both: the shorter is MeSH's.
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
order by
    name_key asc, length(mesh_id) asc, uses desc, mesh_id collate "C" asc, mesh_term collate "C" asc
