{{ config(
    unique_key="gap_key",
    indexes=[{"columns": ["gap_key"], "unique": true}],
) }}

with

trials as (
    select * from {{ ref("int_ghe_trials") }}
),

counts as (
    select
        trials.cause_code,
        years.year,
        count(*) filter (where trials.start_year = years.year) as trials_started,
        count(*) as trials_under_way
    from trials
    cross join lateral generate_series(trials.start_year, trials.last_year) as years (year)
    group by trials.cause_code, years.year
),

study_sites as (
    select
        nct_id,
        sum(recruiting_sites) as recruiting_sites
    from {{ ref("fct_study_country") }}
    group by nct_id
),

recruiting as (
    select
        trials.cause_code,
        count(*) as trials_recruiting,
        sum(study_sites.recruiting_sites) as recruiting_sites
    from trials
    inner join study_sites on trials.nct_id = study_sites.nct_id
    where study_sites.recruiting_sites > 0
    group by trials.cause_code
),

burden as (
    select
        cause_code,
        year,
        count(*) as countries,
        sum(deaths) as deaths,
        sum(dalys) as dalys,
        count(*) filter (where trials_under_way > 0) as countries_with_trials,
        sum(dalys) filter (where trials_under_way = 0) as dalys_without_trials,
        year = max(year) over () as is_newest_year,
        string_agg(distinct release, ', ' order by release) as release,
        string_agg(distinct source, ', ' order by source) as source,
        string_agg(distinct licence, ', ' order by licence) as licence
    from {{ ref("research_gap") }}
    group by cause_code, year
),

compared as (
    select
        burden.*,
        causes.cause_title,
        causes.cause_group,
        causes.is_ranked,
        case when causes.trials is not null then coalesce(counts.trials_started, 0) end
            as trials_started,
        case when causes.trials is not null then coalesce(counts.trials_under_way, 0) end
            as trials_under_way,
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
    left join counts on burden.cause_code = counts.cause_code and burden.year = counts.year
    left join recruiting on burden.cause_code = recruiting.cause_code
)

select
    {{ surrogate_key(["cast(cause_code as text)", "cast(year as text)"]) }} as gap_key,
    cause_code,
    year,
    cause_title,
    cause_group,
    is_ranked,
    is_newest_year,
    countries,
    deaths,
    dalys,
    trials_started,
    trials_under_way,
    trials_recruiting,
    cast(recruiting_sites as bigint) as recruiting_sites,
    trials_under_way * 1000000 / nullif(dalys, 0) as trials_per_million_dalys,
    cast(recruiting_sites as bigint) * 1000000 / nullif(dalys, 0)
        as recruiting_sites_per_million_dalys,
    countries_with_trials,
    dalys_without_trials,
    release,
    source,
    licence
from compared
