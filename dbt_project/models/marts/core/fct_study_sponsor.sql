{{ config(
    unique_key="study_sponsor_id",
    indexes=[
        {"columns": ["study_sponsor_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["sponsor_key"]},
    ],
) }}

select
    id as study_sponsor_id,
    nct_id,
    {{ surrogate_key(["name"]) }} as sponsor_key,
    {{ spelling_key(["name", "agency_class"]) }} as spelling_key,
    lead_or_collaborator as sponsor_role,
    position,
    agency_class
from {{ of_changed_studies(ref("stg_sponsors")) }}
