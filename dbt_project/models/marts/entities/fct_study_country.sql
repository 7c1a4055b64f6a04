{{ config(
    unique_key="study_country_key",
    indexes=[
        {"columns": ["study_country_key"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["country_code"], "type": "spgist"},
    ],
) }}

with

known_names as (
    select
        {{ normalised(["country_name"]) }} as normalised_name,
        country_code
    from {{ ref("country_names") }}
),

-- Countries of sites, and those whose sites were all removed, which have none.
entries as (
    select
        nct_id,
        country as name,
        count(*) as sites,
        count(*) filter (where coalesce(status, 'RECRUITING') = 'RECRUITING') as open_sites,
        false as is_removed
    from {{ of_changed_studies(ref("stg_facilities")) }}
    where btrim(country) <> ''
    group by nct_id, country
    union all
    select
        nct_id,
        name,
        0 as sites,
        0 as open_sites,
        true as is_removed
    from {{ of_changed_studies(ref("stg_countries")) }}
    where removed and btrim(name) <> ''
),

normalised_entries as (
    select
        *,
        {{ normalised(["name"]) }} as normalised_name
    from entries
),

-- A name that is not known stands for itself.
coded as (
    select
        entries.*,
        known_names.country_code,
        coalesce(known_names.country_code, entries.normalised_name) as code_or_name
    from normalised_entries as entries
    left join known_names on entries.normalised_name = known_names.normalised_name
),

-- A country may have several names in one study.
merged as (
    select
        nct_id,
        country_code,
        code_or_name,
        min(name collate "C") as name_as_sent,
        sum(sites) as sites,
        sum(open_sites) as open_sites,
        bool_and(is_removed) as is_removed
    from coded
    group by nct_id, country_code, code_or_name
),

recruiting_studies as (
    select nct_id
    from {{ of_changed_studies(ref("stg_studies")) }}
    where overall_status = 'RECRUITING'
)

select
    {{ surrogate_key(["merged.nct_id", "merged.code_or_name"]) }} as study_country_key,
    merged.nct_id,
    merged.country_code,
    coalesce(countries.country_name, merged.name_as_sent) as country_name,
    cast(merged.sites as bigint) as sites,
    cast(
        case when recruiting_studies.nct_id is not null then merged.open_sites else 0 end as bigint
    ) as recruiting_sites,
    merged.is_removed
from merged
left join {{ ref("countries") }} as countries on merged.country_code = countries.country_code
left join recruiting_studies on merged.nct_id = recruiting_studies.nct_id
