{{ config(
    counted_in="fct_study_sponsor",
    indexes=[
        {"columns": ["spelling_key"], "unique": true},
        {"columns": ["sponsor_key"]},
        {"columns": ["load_number"]},
    ],
) }}

select
    {{ sponsor_spelling_key() }} as spelling_key,
    {{ sponsor_key() }} as sponsor_key,
    name,
    agency_class,
    count(*) as uses
from {{ ref("stg_sponsors") }}
group by name, agency_class
