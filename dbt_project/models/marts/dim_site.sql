{{ config(
    key="site_key",
    materialized="by_key",
    indexes=[
        {"columns": ["site_key"], "unique": true},
        {"columns": ["country"], "type": "spgist"},
        {"columns": ["city"], "type": "spgist"},
    ],
) }}

select distinct on (site_key)
    site_key,
    name as facility_name,
    city,
    state,
    zip,
    country,
    latitude,
    longitude
from {{ ref("int_site_spellings") }}
where uses > 0
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
