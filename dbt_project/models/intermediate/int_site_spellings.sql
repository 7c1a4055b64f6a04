{{ config(
    counted_in="fct_study_site",
    indexes=[
        {"columns": ["spelling_key"], "unique": true},
        {"columns": ["site_key"]},
        {"columns": ["load_number"]},
    ],
) }}

select
    {{ site_spelling_key() }} as spelling_key,
    {{ site_key() }} as site_key,
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
