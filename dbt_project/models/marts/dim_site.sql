{{ config(indexes=[
    {"columns": ["site_key"], "unique": true},
    {"columns": ["country", "city"]},
]) }}

with

-- Grouped before keys are made: 3.5 million locations of studies have far fewer spellings.
spellings as (
    select
        name,
        city,
        state,
        zip,
        country,
        latitude,
        longitude,
        count(*) as uses
    from {{ ref("stg_facilities") }}
    group by name, city, state, zip, country, latitude, longitude
),

keyed as (
    select
        {{ site_key() }} as site_key,
        *
    from spellings
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
from keyed
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
