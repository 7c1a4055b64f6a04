{{ config(
    key="sponsor_key",
    materialized="by_key",
    indexes=[
        {"columns": ["sponsor_key"], "unique": true},
        {"columns": ["sponsor_name"], "type": "spgist"},
    ],
) }}

with

spellings as (
    select * from {{ ref("int_sponsor_spellings") }}
    where uses > 0
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
