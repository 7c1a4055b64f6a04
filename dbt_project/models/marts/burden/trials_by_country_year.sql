{{ config(
    unique_key="country_year_key",
    indexes=[{"columns": ["country_year_key"], "unique": true}],
) }}

with

trials as (
    select
        years.nct_id,
        years.start_year,
        years.last_year,
        origins.country_code as sponsor_country_code
    from {{ ref("int_trial_years") }} as years
    left join {{ ref("bridge_sponsor_organisation") }} as members
        on years.lead_sponsor_key = members.sponsor_key
    left join {{ ref("int_organisation_countries") }} as origins
        on members.organisation_key = origins.organisation_key
),

places as (
    select
        places.country_code,
        trials.start_year,
        trials.last_year,
        places.sites,
        places.recruiting_sites,
        trials.sponsor_country_code = places.country_code as is_domestic
    from trials
    inner join {{ ref("fct_study_country") }} as places on trials.nct_id = places.nct_id
    where places.country_code is not null and not places.is_removed
),

counts as (
    select
        places.country_code,
        years.year,
        places.start_year = years.year as is_start,
        places.sites,
        places.recruiting_sites,
        places.is_domestic
    from places
    cross join lateral generate_series(places.start_year, places.last_year) as years (year)
)

select
    {{ surrogate_key(["counts.country_code", "cast(counts.year as text)"]) }} as country_year_key,
    counts.country_code,
    counts.year,
    case
        when countries.who_region_since > make_date(counts.year, 12, 31)
            then countries.former_who_region
        else countries.who_region
    end as who_region,
    count(*) filter (where counts.is_start) as trials_started,
    count(*) as trials_under_way,
    count(*) filter (where counts.is_start and counts.recruiting_sites > 0) as trials_recruiting,
    cast(coalesce(sum(counts.sites) filter (where counts.is_start), 0) as bigint) as sites,
    cast(coalesce(sum(counts.recruiting_sites) filter (where counts.is_start), 0) as bigint)
        as recruiting_sites,
    count(*) filter (where counts.is_start and counts.is_domestic) as trials_domestic,
    count(*) filter (where counts.is_start and not counts.is_domestic) as trials_foreign,
    count(*) filter (where counts.is_start and counts.is_domestic is null) as trials_unknown_origin
from counts
inner join {{ ref("countries") }} as countries on counts.country_code = countries.country_code
group by
    counts.country_code, counts.year, countries.who_region_since, countries.former_who_region,
    countries.who_region
