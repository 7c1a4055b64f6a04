{{ config(
    unique_key="organisation_key",
    indexes=[
        {"columns": ["organisation_key"], "unique": true},
        {"columns": ["group_key"]},
        {"columns": ["organisation_name"], "type": "spgist"},
    ],
) }}

with

entries as (
    select
        members.organisation_key,
        sponsors.nct_id,
        sponsors.sponsor_key,
        sponsors.sponsor_role,
        sponsors.agency_class
    from {{ ref("fct_study_sponsor") }} as sponsors
    inner join {{ ref("bridge_sponsor_organisation") }} as members
        on sponsors.sponsor_key = members.sponsor_key
),

class_uses as (
    select
        organisation_key,
        agency_class,
        count(*) as uses
    from entries
    group by organisation_key, agency_class
),

classes as (
    select distinct on (organisation_key)
        organisation_key,
        agency_class
    from class_uses
    order by organisation_key asc, uses desc, agency_class collate "C" asc
),

sponsor_uses as (
    select
        sponsor_key,
        count(*) as uses
    from entries
    group by sponsor_key
),

members as (
    select
        members.*,
        sponsor_uses.uses
    from {{ ref("bridge_sponsor_organisation") }} as members
    inner join sponsor_uses on members.sponsor_key = sponsor_uses.sponsor_key
),

-- What was reviewed of an organisation stands with each of its sponsors, or with those whose names
-- the seed has.
organisations as (
    select
        organisation_key,
        coalesce(
            max(reviewed_name),
            (array_agg(sponsor_name order by uses desc, sponsor_name collate "C" asc))[1]
        ) as organisation_name,
        max(parent_organisation_key) as parent_organisation_key,
        max(parent_organisation_name) as parent_organisation_name,
        max(parent_relation) as parent_relation,
        array_agg(sponsor_name order by sponsor_name collate "C" asc) as sponsor_names
    from members
    group by organisation_key
),

-- A parent is there even if it has no study of its own.
parents as (
    select distinct on (parent_organisation_key)
        parent_organisation_key as organisation_key,
        parent_organisation_name as organisation_name
    from organisations
    where parent_organisation_key is not null
    order by parent_organisation_key asc, parent_organisation_name collate "C" asc
),

all_organisations as (
    select
        coalesce(organisations.organisation_key, parents.organisation_key) as organisation_key,
        coalesce(parents.organisation_name, organisations.organisation_name) as organisation_name,
        organisations.parent_organisation_key,
        organisations.parent_organisation_name,
        organisations.parent_relation,
        coalesce(organisations.sponsor_names, cast(array[] as text[])) as sponsor_names
    from organisations
    full outer join parents on organisations.organisation_key = parents.organisation_key
),

study_roles as (
    select
        organisation_key,
        nct_id,
        bool_or(sponsor_role = 'lead') as leads,
        bool_or(sponsor_role = 'collaborator') as collaborates
    from entries
    group by organisation_key, nct_id
),

counts as (
    select
        organisation_key,
        count(*) as studies,
        count(*) filter (where leads) as studies_led,
        count(*) filter (where collaborates) as studies_collaborating
    from study_roles
    group by organisation_key
),

-- What the name says of the kind of place, whatever its class; words without accents.
named as (
    select
        *,
        {{ folded("organisation_name") }} as folded_name
    from all_organisations
),

told as (
    select
        *,
        case
            when folded_name ~ (
                '\m(univ|colleg|facult|fakult|facolta|academ|akadem|polytech|politec|politech'
                || '|hochschul|uniwersyt|yliopist|egyetem|sveucilist|ulikool|daigaku)|universit'
                || '|\m(school|ecole|escuela|escola|scuola)\M'
            ) then 'university'
            when folded_name ~ (
                'hospit|hopita|ospedal|klinik|\mclini(cs?|cas?|co|que)\M|krankenhaus|spital\M'
                || '|sjukhus|sygehus|sykehus|ziekenhuis|gasthuis|sairaala|szpital|nemocnic|bolnic'
                || '|bolnis|hastane|haigla|ligonine|slimnic|infirmary|policlin|poliklin'
                || '|\m(nhs|chu|chru|umc|irccs)\M|medisch centrum|centro medico'
                || '|\m(medical|medicine|cancer|heart|health|cardiovascular|eye|childrens)'
                || ' cent(er|re)'
                || '|azienda (ospedalier|sanitari)|\mhealth ?(care )?(system|trust)'
            ) then 'hospital'
            when folded_name ~ (
                'instit|istitut|research cent(er|re)|centro de investiga|forschungszentrum'
            ) then 'institute'
        end as academic_word
    from named
)

select
    told.organisation_key,
    told.organisation_name,
    told.parent_organisation_key,
    told.parent_organisation_name,
    told.parent_relation,
    coalesce(told.parent_organisation_key, told.organisation_key) as group_key,
    classes.agency_class,
    case classes.agency_class
        when 'INDUSTRY' then 'industry'
        when 'NIH' then 'nih'
        when 'FED' then 'us federal'
        when 'OTHER_GOV' then 'other government'
        when 'NETWORK' then 'network'
        when 'INDIV' then 'individual'
        when 'OTHER' then case when told.academic_word is null then 'other' else 'academic' end
        else 'unknown'
    end as organisation_class,
    told.academic_word,
    coalesce(counts.studies, 0) as studies,
    coalesce(counts.studies_led, 0) as studies_led,
    coalesce(counts.studies_collaborating, 0) as studies_collaborating,
    told.sponsor_names
from told
left join classes on told.organisation_key = classes.organisation_key
left join counts on told.organisation_key = counts.organisation_key
