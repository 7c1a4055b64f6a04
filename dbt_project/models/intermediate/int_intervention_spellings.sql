{{ config(
    counted_in="fct_study_intervention",
    indexes=[
        {"columns": ["spelling_key"], "unique": true},
        {"columns": ["intervention_key"]},
        {"columns": ["load_number"]},
    ],
) }}

select
    {{ intervention_spelling_key() }} as spelling_key,
    {{ intervention_key() }} as intervention_key,
    {{ name_key("name") }} as name_key,
    intervention_type,
    name,
    count(*) as uses
from {{ ref("stg_interventions") }}
group by intervention_type, name
