{{ config(
    unique_key="study_therapeutic_area_id",
    indexes=[
        {"columns": ["study_therapeutic_area_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["therapeutic_area"], "type": "spgist"},
    ],
) }}

with

terms as (
    select * from {{ of_changed_studies(ref("fct_study_mesh_term")) }}
),

areas as (
    select * from {{ ref("therapeutic_areas") }}
)

select
    min(terms.study_mesh_term_id) as study_therapeutic_area_id,
    terms.nct_id,
    areas.therapeutic_area,
    areas.branch
from terms
inner join areas on terms.downcase_mesh_term = areas.downcase_mesh_term
where terms.kind = 'condition'
group by terms.nct_id, areas.therapeutic_area, areas.branch
