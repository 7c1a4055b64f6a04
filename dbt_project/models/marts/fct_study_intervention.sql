{{ config(indexes=[
    {"columns": ["study_intervention_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["intervention_key"]},
]) }}

-- Built after the spellings, which take off what the studies that changed had here before:
-- depends_on: {{ ref("int_intervention_spellings") }}
select
    id as study_intervention_id,
    nct_id,
    {{ intervention_key() }} as intervention_key,
    {{ intervention_spelling_key() }} as spelling_key,
    position
from {{ ref("stg_interventions") }}
