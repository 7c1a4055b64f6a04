{{ config(
    unique_key="study_site_id",
    indexes=[
        {"columns": ["study_site_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["site_key"]},
        {"columns": ["place_key"]},
    ],
) }}

with

known_names as (
    select
        {{ normalised(["country_name"]) }} as normalised_name,
        country_code
    from {{ ref("country_names") }}
),

-- Each name once, since there are few.
names_sent as (
    select distinct country
    from {{ of_changed_studies(ref("stg_facilities")) }}
),

countries as (
    select
        names_sent.country,
        known_names.country_code
    from names_sent
    inner join known_names
        on {{ normalised(["names_sent.country"]) }} = known_names.normalised_name
),

sites as (
    select * from {{ of_changed_studies(ref("stg_facilities")) }}
),

folded_sites as (
    select
        sites.*,
        coalesce(countries.country_code, sites.country) as place_country,
        {{ folded("sites.name") }} as folded_name,
        {{ folded("sites.city") }} as place_city
    from sites
    left join countries on sites.country = countries.country
),

-- Without the number that a sponsor gave the site: `Samsung Medical Center ( Site 5101)`.
places as (
    select
        *,
        case
            when folded_name ~ '[0-9]$'
                then regexp_replace(
                    folded_name,
                    '(?<!study|trial|research|investigational|investigative)'
                    || ' (site|id)( no| number)? [0-9]+$',
                    ''
                )
            else folded_name
        end as place_name
    from folded_sites
)

select
    id as study_site_id,
    nct_id,
    {{ surrogate_key(["name", "city", "state", "zip", "country"]) }} as site_key,
    {{ spelling_key(["name", "city", "state", "zip", "country", "latitude", "longitude"]) }}
        as spelling_key,
    {{ surrogate_key(["place_name", "place_city", "place_country"]) }} as place_key,
    status as site_status,
    position
from places
