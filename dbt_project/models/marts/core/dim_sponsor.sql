{{ config(
    unique_key="sponsor_key",
    indexes=[
        {"columns": ["sponsor_key"], "unique": true},
        {"columns": ["sponsor_name"], "type": "spgist"},
    ],
) }}

with

-- Each spelling and class with the number of entries that have them, and one of these.
spelling_uses as (
    select
        sponsor_key,
        agency_class,
        min(study_sponsor_id) as entry_id,
        count(*) as uses
    from {{ ref("fct_study_sponsor") }}
    group by sponsor_key, spelling_key, agency_class
),

spellings as (
    select
        spelling_uses.sponsor_key,
        spelling_uses.agency_class,
        spelling_uses.uses,
        entries.name
    from spelling_uses
    inner join {{ ref("stg_sponsors") }} as entries on spelling_uses.entry_id = entries.id
),

-- Spelling and class are chosen each by itself: the commonest class may go with a rarer spelling.
name_uses as (
    select
        sponsor_key,
        name,
        sum(uses) as uses
    from spellings
    group by sponsor_key, name
),

names as (
    select distinct on (sponsor_key)
        sponsor_key,
        name
    from name_uses
    order by sponsor_key asc, uses desc, name collate "C" asc
),

class_uses as (
    select
        sponsor_key,
        agency_class,
        sum(uses) as uses
    from spellings
    group by sponsor_key, agency_class
),

classes as (
    select distinct on (sponsor_key)
        sponsor_key,
        agency_class
    from class_uses
    order by sponsor_key asc, uses desc, agency_class collate "C" asc
)

select
    names.sponsor_key,
    names.name as sponsor_name,
    classes.agency_class
from names
inner join classes on names.sponsor_key = classes.sponsor_key
