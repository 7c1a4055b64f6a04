{{ config(materialized="by_study", indexes=[
    {"columns": ["study_intervention_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["intervention_key"]},
]) }}

select
    id as study_intervention_id,
    nct_id,
    {{ intervention_key() }} as intervention_key,
    position
from {{ ref("stg_interventions") }}
