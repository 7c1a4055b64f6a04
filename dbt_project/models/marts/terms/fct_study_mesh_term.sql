{{ config(
    unique_key="study_mesh_term_id",
    indexes=[
        {"columns": ["study_mesh_term_id"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["downcase_mesh_term"], "type": "spgist"},
    ],
) }}

with

-- The keys of both tables begin with the study's number and count its rows; no study has so many
-- terms of conditions that they would meet those of interventions.
entries as (
    select
        id as study_mesh_term_id,
        nct_id,
        'condition' as kind,
        mesh_type,
        {{ normalised(["mesh_term"]) }} as downcase_mesh_term
    from {{ of_changed_studies(ref("stg_browse_conditions")) }}
    union all
    select
        id + 500000000 as study_mesh_term_id,
        nct_id,
        'intervention' as kind,
        mesh_type,
        {{ normalised(["mesh_term"]) }} as downcase_mesh_term
    from {{ of_changed_studies(ref("stg_browse_interventions")) }}
),

-- A term that was assigned is the study's own, wherever else it stands.
terms as (
    select distinct on (nct_id, kind, downcase_mesh_term)
        study_mesh_term_id,
        nct_id,
        kind,
        downcase_mesh_term,
        case when mesh_type = 'mesh-list' then 'own' else 'ancestor' end as relation
    from entries
    where downcase_mesh_term <> ''
    order by
        nct_id asc, kind asc, downcase_mesh_term asc,
        mesh_type = 'mesh-list' desc, study_mesh_term_id asc
)

select
    study_mesh_term_id,
    nct_id,
    kind,
    {{ surrogate_key(["downcase_mesh_term"]) }} as mesh_term_key,
    downcase_mesh_term,
    relation
from terms
