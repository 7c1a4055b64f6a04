{{ config(
    unique_key="study_investigator_key",
    indexes=[
        {"columns": ["study_investigator_key"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["investigator_key"]},
    ],
) }}

with

site_investigators as (
    select * from {{ of_changed_studies(ref("stg_facility_investigators")) }}
),

sites as (
    select * from {{ of_changed_studies(ref("stg_facilities")) }}
),

entries as (
    select
        id,
        nct_id,
        'overall official' as named_as,
        role,
        name,
        affiliation,
        cast(null as bigint) as study_site_id
    from {{ of_changed_studies(ref("stg_overall_officials")) }}
    union all
    select
        investigators.id,
        investigators.nct_id,
        'site investigator' as named_as,
        investigators.role,
        investigators.name,
        sites.name as affiliation,
        investigators.facility_id as study_site_id
    from site_investigators as investigators
    left join sites on investigators.facility_id = sites.id
    union all
    select
        id,
        nct_id,
        'responsible party' as named_as,
        responsible_party_type as role,
        coalesce(name, old_name_title) as name,
        coalesce(affiliation, organization) as affiliation,
        cast(null as bigint) as study_site_id
    from {{ of_changed_studies(ref("stg_responsible_parties")) }}
),

-- Before the first comma is the name, after it are degrees; but for `Doe, Jane`.
parts as (
    select
        *,
        ' ' || {{ folded("split_part(name, ',', 1)") }} as first_part,
        ' ' || {{ folded("split_part(name, ',', 2)") }} as second_part
    from entries
    where btrim(name) <> ''
),

-- Titles stand before a name, degrees behind it. Not among them is what is a family name as well
-- (Ma, Do, Ba).
words as (
    select
        '^( (assistant|assoc|associate|asst|dipl|doctor|dott|dr|dra|drs|habil|ing|med|miss|mr|mrs'
        || '|ms|pd|priv doz|privatdozent|prof|professor|sir|univ))+(?= |$)' as titles,
        '( (aprn|bsc|crnp|dds|dmd|dmsc|dnp|doctor|dphil|dpt|dr|drph|dsc|edd|facc|facep|facp|facs'
        || '|faha|fccp|fesc|frcp|frcpc|frcs|frcsc|m d|mbbs|mbchb|mba|md|mhs|mph|mphil|mrcp|mrcs|msc'
        || '|ph d|pharmd|phd|prof|professor|psyd|rn|scd))+$' as degrees
),

stripped as (
    select
        parts.*,
        btrim(
            regexp_replace(regexp_replace(parts.first_part, words.titles, ''), words.degrees, '')
        ) as first_name_part,
        btrim(
            regexp_replace(regexp_replace(parts.second_part, words.titles, ''), words.degrees, '')
        ) as second_name_part
    from parts
    cross join words
),

normalised_names as (
    select
        *,
        coalesce(
            nullif(
                case
                    when first_name_part like '% %' then first_name_part
                    else btrim(second_name_part || ' ' || first_name_part)
                end, ''
            ),
            nullif(btrim(first_part), ''),
            lower(btrim(name))
        ) as investigator_name,
        {{ folded("affiliation") }} as folded_affiliation
    from stripped
)

select
    {{ surrogate_key(["named_as", "cast(id as text)"]) }} as study_investigator_key,
    nct_id,
    named_as,
    role,
    {{ surrogate_key(["investigator_name"]) }} as investigator_key,
    {{ surrogate_key(["investigator_name", "folded_affiliation"]) }} as name_and_affiliation_key,
    investigator_name,
    name,
    affiliation,
    study_site_id,
    -- Else an office or a company in the place of a person.
    investigator_name !~ (
        '^[^ ]+$|[0-9]|\m(call cent(er|re)|medical (director|monitor|affairs|officer)'
        || '|clinical (trials?|research|study|director|monitor|operations)'
        || '|study (director|manager|official|coordinator)'
        || '|chief|contact|company|corp|department|director|disclosure|foundation|gmbh|group|help'
        || '|hospital|inc|information|institut[^ ]*|llc|ltd|office|pharma[^ ]*|responsible|sponsor'
        || '|team|therapeutics|transparency|trials?|universi[^ ]*)\M'
    ) as is_person
from normalised_names
