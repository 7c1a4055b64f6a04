{{ config(indexes=[
    {"columns": ["study_condition_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["condition_key"]},
]) }}

-- Built after the spellings, which take off what the studies that changed had here before:
-- depends_on: {{ ref("int_condition_spellings") }}
select
    id as study_condition_id,
    nct_id,
    {{ condition_key() }} as condition_key,
    {{ condition_spelling_key() }} as spelling_key,
    position
from {{ ref("stg_conditions") }}
