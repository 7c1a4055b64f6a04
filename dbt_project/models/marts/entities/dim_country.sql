{{ config(
    unique_key="country_code",
    indexes=[{"columns": ["country_code"], "unique": true}],
) }}

with

names as (
    select
        country_code,
        array_agg(country_name order by country_name collate "C") as names
    from {{ ref("country_names") }}
    group by country_code
),

counts as (
    select
        country_code,
        count(*) filter (where not is_removed) as studies,
        count(*) filter (where recruiting_sites > 0) as studies_recruiting,
        count(*) filter (where is_removed) as studies_removed,
        sum(sites) as sites
    from {{ ref("fct_study_country") }}
    where country_code is not null
    group by country_code
)

select
    countries.country_code,
    countries.alpha2,
    countries.numeric_code,
    countries.country_name,
    countries.un_region,
    countries.un_subregion,
    countries.who_region,
    countries.former_who_region,
    countries.who_region_since,
    countries.income_group,
    countries.former_since,
    countries.note,
    names.names,
    coalesce(counts.studies, 0) as studies,
    coalesce(counts.studies_recruiting, 0) as studies_recruiting,
    coalesce(counts.studies_removed, 0) as studies_removed,
    cast(coalesce(counts.sites, 0) as bigint) as sites
from {{ ref("countries") }} as countries
left join names on countries.country_code = names.country_code
left join counts on countries.country_code = counts.country_code
