{{ config(
    unique_key="mesh_term_key",
    indexes=[
        {"columns": ["mesh_term_key"], "unique": true},
        {"columns": ["mesh_id"], "type": "spgist"},
    ],
) }}

with

counts as (
    select
        mesh_term_key,
        downcase_mesh_term,
        count(*) filter (where kind = 'condition' and relation = 'own') as condition_studies_own,
        count(*) filter (where kind = 'condition') as condition_studies,
        count(*) filter (where kind = 'intervention' and relation = 'own')
            as intervention_studies_own,
        count(*) filter (where kind = 'intervention') as intervention_studies
    from {{ ref("fct_study_mesh_term") }}
    group by mesh_term_key, downcase_mesh_term
),

condition_headings as (
    select * from {{ ref("int_condition_headings") }}
),

intervention_headings as (
    select * from {{ ref("int_intervention_headings") }}
),

areas as (
    select * from {{ ref("therapeutic_areas") }}
)

select
    counts.mesh_term_key,
    coalesce(condition_headings.mesh_term, intervention_headings.mesh_term) as mesh_term,
    counts.downcase_mesh_term,
    coalesce(condition_headings.mesh_id, intervention_headings.mesh_id) as mesh_id,
    counts.condition_studies_own,
    counts.condition_studies,
    counts.intervention_studies_own,
    counts.intervention_studies,
    areas.therapeutic_area,
    areas.branch
from counts
left join condition_headings on counts.mesh_term_key = condition_headings.name_key
left join intervention_headings on counts.mesh_term_key = intervention_headings.name_key
left join areas on counts.downcase_mesh_term = areas.downcase_mesh_term
