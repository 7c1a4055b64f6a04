{{ config(
    unique_key="investigator_key",
    indexes=[
        {"columns": ["investigator_key"], "unique": true},
        {"columns": ["investigator_name"], "type": "spgist"},
    ],
) }}

with

entries as (
    select
        investigator_key,
        nct_id,
        named_as,
        role,
        name_and_affiliation_key,
        investigator_name,
        is_person,
        study_investigator_key
    from {{ ref("fct_study_investigator") }}
),

-- A study counts once for a name, however often it has it.
study_names as (
    select
        investigator_key,
        nct_id,
        min(investigator_name collate "C") as investigator_name,
        bool_and(is_person) as is_person,
        count(*) as entries,
        bool_or(named_as = 'overall official') as is_official,
        bool_or(named_as = 'site investigator') as is_at_site,
        bool_or(named_as = 'responsible party') as is_responsible,
        bool_or(role in ('PRINCIPAL_INVESTIGATOR', 'SPONSOR_INVESTIGATOR')) as is_principal
    from entries
    group by investigator_key, nct_id
),

counts as (
    select
        investigator_key,
        min(investigator_name collate "C") as investigator_name,
        bool_and(is_person) as is_person,
        count(*) as studies,
        count(*) filter (where is_principal) as studies_as_principal_investigator,
        count(*) filter (where is_official) as studies_as_overall_official,
        count(*) filter (where is_at_site) as studies_as_site_investigator,
        count(*) filter (where is_responsible) as studies_as_responsible_party,
        cast(sum(entries) as bigint) as entries
    from study_names
    group by investigator_key
),

affiliation_uses as (
    select
        investigator_key,
        name_and_affiliation_key,
        count(*) as uses,
        min(study_investigator_key) as entry_key
    from entries
    group by investigator_key, name_and_affiliation_key
),

affiliations as (
    select
        investigator_key,
        count(*) as affiliations
    from affiliation_uses
    group by investigator_key
),

commonest as (
    select distinct on (investigator_key)
        investigator_key,
        entry_key
    from affiliation_uses
    order by investigator_key asc, uses desc, name_and_affiliation_key asc
)

select
    counts.investigator_key,
    counts.investigator_name,
    entries.name as name_as_sent,
    entries.affiliation as commonest_affiliation,
    affiliations.affiliations,
    counts.is_person,
    counts.studies,
    counts.studies_as_principal_investigator,
    counts.studies_as_overall_official,
    counts.studies_as_site_investigator,
    counts.studies_as_responsible_party,
    counts.entries
from counts
inner join affiliations on counts.investigator_key = affiliations.investigator_key
inner join commonest on counts.investigator_key = commonest.investigator_key
inner join {{ ref("fct_study_investigator") }} as entries
    on commonest.entry_key = entries.study_investigator_key
