{{ config(
    unique_key="study_condition_id",
    indexes=[
        {"columns": ["study_condition_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["condition_key"]},
    ],
) }}

select
    id as study_condition_id,
    nct_id,
    {{ surrogate_key(["name"]) }} as condition_key,
    {{ spelling_key(["name"]) }} as spelling_key,
    position
from {{ of_changed_studies(ref("stg_conditions")) }}
