{{ config(
    unique_key="site_key",
    indexes=[
        {"columns": ["site_key"], "unique": true},
        {"columns": ["country"], "type": "spgist"},
        {"columns": ["city"], "type": "spgist"},
    ],
) }}

with

-- Each spelling with the number of entries that have it, and one of these.
spelling_uses as (
    select
        site_key,
        min(study_site_id) as entry_id,
        count(*) as uses
    from {{ ref("fct_study_site") }}
    group by site_key, spelling_key
),

spellings as (
    select
        spelling_uses.site_key,
        spelling_uses.uses,
        entries.name,
        entries.city,
        entries.state,
        entries.zip,
        entries.country,
        entries.latitude,
        entries.longitude
    from spelling_uses
    inner join {{ ref("stg_facilities") }} as entries on spelling_uses.entry_id = entries.id
)

select distinct on (site_key)
    site_key,
    name as facility_name,
    city,
    state,
    zip,
    country,
    latitude,
    longitude
from spellings
order by
    site_key asc,
    latitude is null asc,
    uses desc,
    name collate "C" asc,
    city collate "C" asc,
    state collate "C" asc,
    zip collate "C" asc,
    country collate "C" asc,
    latitude asc,
    longitude asc
