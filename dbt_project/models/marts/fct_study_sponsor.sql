{{ config(materialized="by_study", indexes=[
    {"columns": ["study_sponsor_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["sponsor_key"]},
]) }}

select
    id as study_sponsor_id,
    nct_id,
    {{ sponsor_key() }} as sponsor_key,
    lead_or_collaborator as sponsor_role,
    position,
    agency_class
from {{ ref("stg_sponsors") }}
