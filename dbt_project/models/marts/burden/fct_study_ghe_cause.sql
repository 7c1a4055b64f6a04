{{ config(
    unique_key="study_cause_key",
    indexes=[
        {"columns": ["study_cause_key"], "unique": true},
        {"columns": ["nct_id"]},
        {"columns": ["cause_code"]},
    ],
) }}

with

terms as (
    select
        nct_id,
        downcase_mesh_term
    from {{ of_changed_studies(ref("fct_study_mesh_term")) }}
    where kind = 'condition'
),

cause_terms as (
    select
        cause_code,
        is_excluded,
        {{ normalised(["mesh_term"]) }} as downcase_mesh_term
    from {{ ref("ghe_cause_terms") }}
),

told as (
    select
        terms.nct_id,
        cause_terms.cause_code
    from terms
    inner join cause_terms on terms.downcase_mesh_term = cause_terms.downcase_mesh_term
    group by terms.nct_id, cause_terms.cause_code
    having not bool_or(cause_terms.is_excluded)
),

-- What is of a cause is of all that it is a part of.
held as (
    select
        told.nct_id,
        lines.holder_code as cause_code,
        bool_or(told.cause_code = lines.holder_code) as has_own_term
    from told
    inner join {{ ref("int_ghe_cause_lines") }} as lines on told.cause_code = lines.cause_code
    group by told.nct_id, lines.holder_code
),

studies as (
    select
        nct_id,
        study_type
    from {{ of_changed_studies(ref("stg_studies")) }}
)

select
    {{ surrogate_key(["held.nct_id", "cast(held.cause_code as text)"]) }} as study_cause_key,
    held.nct_id,
    held.cause_code,
    held.has_own_term,
    coalesce(studies.study_type = 'INTERVENTIONAL', false) as is_trial
from held
inner join studies on held.nct_id = studies.nct_id
