{{ config(indexes=[
    {"columns": ["study_sponsor_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["sponsor_key"]},
]) }}

-- Built after the spellings, which take off what the studies that changed had here before:
-- depends_on: {{ ref("int_sponsor_spellings") }}
select
    id as study_sponsor_id,
    nct_id,
    {{ sponsor_key() }} as sponsor_key,
    {{ sponsor_spelling_key() }} as spelling_key,
    lead_or_collaborator as sponsor_role,
    position,
    agency_class
from {{ ref("stg_sponsors") }}
