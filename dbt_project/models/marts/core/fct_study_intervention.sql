{{ config(
    unique_key="study_intervention_id",
    indexes=[
        {"columns": ["study_intervention_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["intervention_key"]},
    ],
) }}

select
    id as study_intervention_id,
    nct_id,
    {{ surrogate_key(["intervention_type", "name"]) }} as intervention_key,
    {{ spelling_key(["intervention_type", "name"]) }} as spelling_key,
    position
from {{ of_changed_studies(ref("stg_interventions")) }}
