{{ config(materialized="by_study", indexes=[
    {"columns": ["study_condition_id"], "unique": true},
    {"columns": ["nct_id"]},
    {"columns": ["condition_key"]},
]) }}

select
    id as study_condition_id,
    nct_id,
    {{ condition_key() }} as condition_key,
    position
from {{ ref("stg_conditions") }}
