{{ config(
    unique_key="gap_key",
    indexes=[
        {"columns": ["gap_key"], "unique": true},
        {"columns": ["cause_code", "year"]},
        {"columns": ["country_code"], "type": "spgist"},
    ],
) }}

with

places as (
    select
        trials.nct_id,
        trials.cause_code,
        trials.start_year,
        trials.last_year,
        places.country_code,
        places.sites,
        places.recruiting_sites
    from {{ ref("int_ghe_trials") }} as trials
    inner join {{ ref("fct_study_country") }} as places on trials.nct_id = places.nct_id
    where places.country_code is not null and not places.is_removed
),

counts as (
    select
        places.country_code,
        places.cause_code,
        years.year,
        count(*) filter (where places.start_year = years.year) as trials_started,
        count(*) as trials_under_way,
        sum(places.sites) filter (where places.start_year = years.year) as sites
    from places
    cross join lateral generate_series(places.start_year, places.last_year) as years (year)
    group by places.country_code, places.cause_code, years.year
),

recruiting as (
    select
        country_code,
        cause_code,
        count(*) as trials_recruiting,
        sum(recruiting_sites) as recruiting_sites
    from places
    where recruiting_sites > 0
    group by country_code, cause_code
),

burden as (
    select
        *,
        year = max(year) over (partition by country_code) as is_newest_year
    from {{ ref("burden_by_country_cause_year") }}
    where is_counted
),

compared as (
    select
        burden.*,
        case when causes.trials is not null then coalesce(counts.trials_started, 0) end
            as trials_started,
        case when causes.trials is not null then coalesce(counts.trials_under_way, 0) end
            as trials_under_way,
        case when causes.trials is not null then coalesce(counts.sites, 0) end as sites,
        case
            when causes.trials is not null and burden.is_newest_year
                then coalesce(recruiting.trials_recruiting, 0)
        end as trials_recruiting,
        case
            when causes.trials is not null and burden.is_newest_year
                then coalesce(recruiting.recruiting_sites, 0)
        end as recruiting_sites
    from burden
    inner join {{ ref("dim_ghe_cause") }} as causes on burden.cause_code = causes.cause_code
    left join counts
        on
            burden.country_code = counts.country_code
            and burden.cause_code = counts.cause_code
            and burden.year = counts.year
    left join recruiting
        on
            burden.country_code = recruiting.country_code
            and burden.cause_code = recruiting.cause_code
)

select
    burden_key as gap_key,
    country_code,
    cause_code,
    year,
    cause_title,
    who_region,
    is_newest_year,
    deaths,
    dalys,
    trials_started,
    trials_under_way,
    cast(sites as bigint) as sites,
    trials_recruiting,
    cast(recruiting_sites as bigint) as recruiting_sites,
    trials_under_way * 1000000 / nullif(dalys, 0) as trials_per_million_dalys,
    cast(recruiting_sites as bigint) * 1000000 / nullif(dalys, 0)
        as recruiting_sites_per_million_dalys,
    release,
    source,
    licence
from compared
