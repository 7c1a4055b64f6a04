{{ config(
    counted_in="fct_study_condition",
    indexes=[
        {"columns": ["spelling_key"], "unique": true},
        {"columns": ["condition_key"]},
        {"columns": ["load_number"]},
    ],
) }}

select
    {{ condition_spelling_key() }} as spelling_key,
    {{ condition_key() }} as condition_key,
    {{ name_key("name") }} as name_key,
    name,
    count(*) as uses
from {{ ref("stg_conditions") }}
group by name
