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
    select
        id,
        nct_id,
        status,
        position,
        {{ spelling_key(["name", "city", "state", "zip", "country", "latitude", "longitude"]) }}
            as spelling_key
    from {{ of_changed_studies(ref("stg_facilities")) }}
),

-- Each spelling once, since folding takes long and many entries are spelled alike.
spelled_alike as (
    select
        spelling_key,
        min(id) as id
    from sites
    group by spelling_key
),

entries as (
    select * from {{ of_changed_studies(ref("stg_facilities")) }}
),

-- Materialized: else a name is folded wherever the column stands, three times.
folded_spellings as materialized (
    select
        spelled_alike.spelling_key,
        {{ surrogate_key([
            "entries.name", "entries.city", "entries.state", "entries.zip", "entries.country"
        ]) }} as site_key,
        coalesce(countries.country_code, entries.country) as place_country,
        {{ folded("entries.name") }} as folded_name,
        {{ folded("entries.city") }} as place_city
    from spelled_alike
    inner join entries on spelled_alike.id = entries.id
    left join countries on entries.country = countries.country
),

-- Without the number that a sponsor gave the site: `Samsung Medical Center ( Site 5101)`.
places as (
    select
        spelling_key,
        site_key,
        place_city,
        place_country,
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
    from folded_spellings
)

select
    sites.id as study_site_id,
    sites.nct_id,
    places.site_key,
    sites.spelling_key,
    {{ surrogate_key(["places.place_name", "places.place_city", "places.place_country"]) }}
        as place_key,
    sites.status as site_status,
    sites.position
from sites
inner join places on sites.spelling_key = places.spelling_key
