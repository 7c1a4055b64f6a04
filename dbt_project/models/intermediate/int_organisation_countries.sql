{{ config(materialized="ephemeral") }}

-- The country that an organisation is led from: by the reviewed list for it or its group, else the
-- one in which most of the trials lie that it leads in a single country.
with

reviewed as (
    select
        organisations.organisation_key,
        known.country_code
    from {{ ref("dim_organisation") }} as organisations
    inner join {{ ref("dim_organisation") }} as holders
        on organisations.group_key = holders.organisation_key
    inner join {{ ref("organisation_countries") }} as known
        on holders.organisation_name = known.organisation_name
),

single_countries as (
    select
        nct_id,
        min(country_code) as country_code
    from {{ ref("fct_study_country") }}
    where not is_removed
    group by nct_id
    having count(*) = 1 and count(country_code) = 1
),

uses as (
    select
        members.organisation_key,
        single_countries.country_code,
        count(*) as trials,
        sum(count(*)) over (partition by members.organisation_key) as all_trials
    from {{ ref("dim_study") }} as studies
    inner join single_countries on studies.nct_id = single_countries.nct_id
    inner join {{ ref("bridge_sponsor_organisation") }} as members
        on studies.lead_sponsor_key = members.sponsor_key
    where studies.study_type = 'INTERVENTIONAL'
    group by members.organisation_key, single_countries.country_code
)

select
    organisations.organisation_key,
    coalesce(reviewed.country_code, uses.country_code) as country_code
from {{ ref("dim_organisation") }} as organisations
left join reviewed on organisations.organisation_key = reviewed.organisation_key
left join uses
    on organisations.organisation_key = uses.organisation_key and uses.trials * 2 > uses.all_trials
where reviewed.country_code is not null or uses.country_code is not null
