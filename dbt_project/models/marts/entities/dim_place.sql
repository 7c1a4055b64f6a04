{{ config(
    unique_key="place_key",
    indexes=[
        {"columns": ["place_key"], "unique": true},
        {"columns": ["country_code"], "type": "spgist"},
        {"columns": ["city"], "type": "spgist"},
        {"columns": ["latitude", "longitude"]},
    ],
) }}

with

site_uses as (
    select
        place_key,
        site_key,
        count(*) as uses
    from {{ ref("fct_study_site") }}
    group by place_key, site_key
),

-- The site that most entries name stands for the place, one with a position before others.
chosen_sites as (
    select distinct on (site_uses.place_key)
        site_uses.place_key,
        sites.facility_name,
        sites.city,
        sites.state,
        sites.zip,
        sites.country,
        sites.latitude,
        sites.longitude
    from site_uses
    inner join {{ ref("dim_site") }} as sites on site_uses.site_key = sites.site_key
    order by
        site_uses.place_key asc,
        sites.latitude is null asc,
        site_uses.uses desc,
        site_uses.site_key asc
),

place_studies as (
    select
        place_key,
        nct_id,
        count(*) as sites,
        bool_or(coalesce(site_status, 'RECRUITING') = 'RECRUITING') as is_open
    from {{ ref("fct_study_site") }}
    group by place_key, nct_id
),

counts as (
    select
        place_studies.place_key,
        sum(place_studies.sites) as sites,
        count(*) as studies,
        count(*) filter (
            where place_studies.is_open and studies.overall_status = 'RECRUITING'
        ) as studies_recruiting,
        count(distinct studies.lead_sponsor_key) as lead_sponsors
    from place_studies
    inner join {{ ref("dim_study") }} as studies on place_studies.nct_id = studies.nct_id
    group by place_studies.place_key
),

known_names as (
    select
        {{ normalised(["country_name"]) }} as normalised_name,
        country_code
    from {{ ref("country_names") }}
),

-- Each name once, since there are few.
names_sent as (
    select distinct country
    from chosen_sites
),

countries as (
    select
        names_sent.country,
        known_names.country_code
    from names_sent
    inner join known_names
        on {{ normalised(["names_sent.country"]) }} = known_names.normalised_name
)

select
    chosen_sites.place_key,
    chosen_sites.facility_name,
    chosen_sites.city,
    chosen_sites.state,
    chosen_sites.zip,
    countries.country_code,
    chosen_sites.country,
    chosen_sites.latitude,
    chosen_sites.longitude,
    -- Names under which sponsors hide a site.
    lower(coalesce(chosen_sites.facility_name, '')) ~ (
        '^$|investigat(ional|ive|or|ion)s? +site|^local institution|^for (additional )?information'
        || '|^(clinical )?(research|study|trial) +site|(study|trial) +site +[0-9]+$'
        || '|^site( *[0-9#]|$| reference| number| no)|^(cent(er|re)|facility|location) *#?[0-9]+$'
    ) as is_anonymous,
    cast(counts.sites as bigint) as sites,
    counts.studies,
    counts.studies_recruiting,
    counts.lead_sponsors
from chosen_sites
inner join counts on chosen_sites.place_key = counts.place_key
left join countries on chosen_sites.country = countries.country
