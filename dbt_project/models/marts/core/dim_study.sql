{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
        {"columns": ["lead_sponsor_key"]},
        {"columns": ["overall_status"], "type": "spgist"},
        {"columns": ["start_date"]},
    ],
) }}

with

studies as (
    select * from {{ of_changed_studies(ref("stg_studies")) }}
),

designs as (
    select * from {{ of_changed_studies(ref("stg_designs")) }}
),

eligibilities as (
    select * from {{ of_changed_studies(ref("stg_eligibilities")) }}
),

sponsors as (
    select
        nct_id,
        count(*) as sponsor_count
    from {{ of_changed_studies(ref("stg_sponsors")) }}
    group by nct_id
),

lead_sponsors as (
    select
        nct_id,
        {{ surrogate_key(["name"]) }} as lead_sponsor_key
    from {{ of_changed_studies(ref("stg_sponsors")) }}
    where lead_or_collaborator = 'lead'
),

conditions as (
    select
        nct_id,
        count(*) as condition_count
    from {{ of_changed_studies(ref("stg_conditions")) }}
    group by nct_id
),

interventions as (
    select
        nct_id,
        count(*) as intervention_count
    from {{ of_changed_studies(ref("stg_interventions")) }}
    group by nct_id
),

sites as (
    select
        nct_id,
        count(*) as site_count
    from {{ of_changed_studies(ref("stg_facilities")) }}
    group by nct_id
),

countries as (
    select
        nct_id,
        count(*) as country_count
    from {{ of_changed_studies(ref("stg_countries")) }}
    where not removed
    group by nct_id
),

outcomes as (
    select
        nct_id,
        count(*) filter (where outcome_type = 'primary') as primary_outcome_count,
        count(*) filter (where outcome_type = 'secondary') as secondary_outcome_count
    from {{ of_changed_studies(ref("stg_design_outcomes")) }}
    group by nct_id
)

select
    studies.nct_id,
    studies.content_hash,

    -- titles and origin
    studies.brief_title,
    studies.official_title,
    studies.acronym,
    lead_sponsors.lead_sponsor_key,
    studies.source,
    studies.source_class,

    -- status
    studies.overall_status,
    studies.last_known_status,
    studies.why_stopped,
    studies.has_expanded_access,
    studies.has_results,

    -- dates
    studies.study_first_submitted_date,
    studies.study_first_posted_date,
    studies.last_update_submitted_date,
    studies.last_update_posted_date,
    studies.results_first_submitted_date,
    studies.results_first_posted_date,
    studies.start_date,
    studies.start_date_precision,
    studies.start_date_type,
    studies.primary_completion_date,
    studies.primary_completion_date_precision,
    studies.primary_completion_date_type,
    studies.completion_date,
    studies.completion_date_precision,
    studies.completion_date_type,

    -- design
    studies.study_type,
    studies.phase,
    designs.allocation,
    designs.intervention_model,
    designs.observational_model,
    designs.time_perspective,
    designs.primary_purpose,
    designs.masking,
    case when not studies.enrollment_is_unknown then studies.enrollment end as enrollment,
    studies.enrollment_type,
    studies.number_of_arms,
    studies.number_of_groups,
    studies.patient_registry as is_patient_registry,

    -- oversight and sharing
    studies.has_dmc,
    studies.is_fda_regulated_drug,
    studies.is_fda_regulated_device,
    studies.plan_to_share_ipd,

    -- eligibility
    eligibilities.gender as sex,
    eligibilities.minimum_age_years,
    eligibilities.maximum_age_years,
    eligibilities.child as includes_children,
    eligibilities.adult as includes_adults,
    eligibilities.older_adult as includes_older_adults,
    eligibilities.healthy_volunteers as accepts_healthy_volunteers,

    -- counts
    coalesce(sponsors.sponsor_count, 0) as sponsor_count,
    coalesce(conditions.condition_count, 0) as condition_count,
    coalesce(interventions.intervention_count, 0) as intervention_count,
    coalesce(sites.site_count, 0) as site_count,
    coalesce(countries.country_count, 0) as country_count,
    coalesce(outcomes.primary_outcome_count, 0) as primary_outcome_count,
    coalesce(outcomes.secondary_outcome_count, 0) as secondary_outcome_count
from studies
left join designs on studies.nct_id = designs.nct_id
left join eligibilities on studies.nct_id = eligibilities.nct_id
left join sponsors on studies.nct_id = sponsors.nct_id
left join lead_sponsors on studies.nct_id = lead_sponsors.nct_id
left join conditions on studies.nct_id = conditions.nct_id
left join interventions on studies.nct_id = interventions.nct_id
left join sites on studies.nct_id = sites.nct_id
left join countries on studies.nct_id = countries.nct_id
left join outcomes on studies.nct_id = outcomes.nct_id
