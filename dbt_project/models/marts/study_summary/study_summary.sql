{{ config(
    unique_key="nct_id",
    indexes=[
        {"columns": ["nct_id"], "unique": true},
        {"columns": ["overall_status"], "type": "spgist"},
        {"columns": ["lead_sponsor"], "type": "spgist"},
    ],
) }}

-- Lists are in the registry's order; those that belong together (names, types) are equally long.
with

studies as (
    select * from {{ of_changed_studies(ref("dim_study")) }}
),

registered as (
    select * from {{ of_changed_studies(ref("stg_studies")) }}
),

eligibilities as (
    select * from {{ of_changed_studies(ref("stg_eligibilities")) }}
),

identifiers as (
    select
        nct_id,
        min(id_value) filter (where id_source = 'org_study_id') as org_study_id,
        array_agg(id_value order by id) filter (
            where id_source = 'secondary_id' and id_value is not null
        ) as secondary_ids,
        array_agg(id_value order by id) filter (where id_source = 'nct_alias') as nct_aliases
    from {{ of_changed_studies(ref("stg_id_information")) }}
    group by nct_id
),

sponsors as (
    select
        nct_id,
        min(name) filter (where lead_or_collaborator = 'lead') as lead_sponsor,
        min(agency_class) filter (where lead_or_collaborator = 'lead') as lead_sponsor_class,
        array_agg(name order by id) filter (where lead_or_collaborator = 'collaborator')
            as collaborators,
        array_agg(agency_class order by id) filter (where lead_or_collaborator = 'collaborator')
            as collaborator_classes,
        case
            when bool_or(agency_class = 'NIH' and lead_or_collaborator = 'lead') then 'NIH'
            when bool_or(agency_class = 'INDUSTRY') then 'INDUSTRY'
            when bool_or(agency_class = 'NIH') then 'NIH'
            else 'OTHER'
        end as funding_class
    from {{ of_changed_studies(ref("stg_sponsors")) }}
    group by nct_id
),

conditions as (
    select
        nct_id,
        array_agg(name order by id) as names
    from {{ of_changed_studies(ref("stg_conditions")) }}
    group by nct_id
),

keywords as (
    select
        nct_id,
        array_agg(name order by id) as names
    from {{ of_changed_studies(ref("stg_keywords")) }}
    group by nct_id
),

condition_headings as (
    select
        nct_id,
        array_agg(mesh_term order by id) filter (where mesh_type = 'mesh-list') as own,
        array_agg(mesh_term order by id) filter (where mesh_type = 'mesh-ancestor') as ancestors
    from {{ of_changed_studies(ref("stg_browse_conditions")) }}
    where mesh_term is not null
    group by nct_id
),

intervention_headings as (
    select
        nct_id,
        array_agg(mesh_term order by id) filter (where mesh_type = 'mesh-list') as own,
        array_agg(mesh_term order by id) filter (where mesh_type = 'mesh-ancestor') as ancestors
    from {{ of_changed_studies(ref("stg_browse_interventions")) }}
    where mesh_term is not null
    group by nct_id
),

interventions as (
    select
        nct_id,
        array_agg(name order by id) as names,
        array_agg(intervention_type order by id) as types
    from {{ of_changed_studies(ref("stg_interventions")) }}
    group by nct_id
),

arms as (
    select
        nct_id,
        count(*) as arm_count,
        array_agg(title order by id) as titles,
        array_agg(group_type order by id) as types
    from {{ of_changed_studies(ref("stg_design_groups")) }}
    group by nct_id
),

outcomes as (
    select
        nct_id,
        array_agg(measure order by id) filter (where outcome_type = 'primary') as primary_measures,
        array_agg(time_frame order by id) filter (where outcome_type = 'primary')
            as primary_time_frames,
        array_agg(measure order by id) filter (where outcome_type = 'secondary')
            as secondary_measures,
        array_agg(time_frame order by id) filter (where outcome_type = 'secondary')
            as secondary_time_frames,
        count(*) filter (where outcome_type = 'other') as other_outcome_count
    from {{ of_changed_studies(ref("stg_design_outcomes")) }}
    group by nct_id
),

countries as (
    select
        nct_id,
        array_agg(name order by id) filter (where not removed) as present,
        array_agg(name order by id) filter (where removed) as removed
    from {{ of_changed_studies(ref("stg_countries")) }}
    group by nct_id
),

sites as (
    select
        nct_id,
        count(*) filter (where status = 'RECRUITING') as recruiting_site_count
    from {{ of_changed_studies(ref("stg_facilities")) }}
    group by nct_id
),

us_sites as (
    select
        nct_id,
        has_us_facility
    from {{ of_changed_studies(ref("stg_calculated_values")) }}
),

officials as (
    select
        nct_id,
        array_agg(name order by id) as names,
        array_agg(affiliation order by id) as affiliations
    from {{ of_changed_studies(ref("stg_overall_officials")) }}
    group by nct_id
),

documents as (
    select
        nct_id,
        bool_or(has_protocol) as has_protocol,
        bool_or(has_sap) as has_sap
    from {{ of_changed_studies(ref("stg_provided_documents")) }}
    group by nct_id
)

select
    studies.nct_id,

    -- titles and identifiers
    studies.brief_title,
    studies.official_title,
    studies.acronym,
    identifiers.org_study_id,
    coalesce(identifiers.secondary_ids, '{}') as secondary_ids,
    {{ joined("identifiers.secondary_ids") }} as secondary_ids_text,
    coalesce(identifiers.nct_aliases, '{}') as nct_aliases,
    {{ joined("identifiers.nct_aliases") }} as nct_aliases_text,

    -- type, phase and status, as sent and for display
    studies.study_type,
    case studies.study_type
        when 'INTERVENTIONAL' then 'Interventional'
        when 'OBSERVATIONAL' then 'Observational'
        when 'EXPANDED_ACCESS' then 'Expanded access'
        else studies.study_type
    end as study_type_label,
    case studies.study_type
        when 'INTERVENTIONAL' then 1
        when 'OBSERVATIONAL' then 2
        when 'EXPANDED_ACCESS' then 3
    end as study_type_order,
    studies.phase,
    case studies.phase
        when 'EARLY_PHASE1' then 'Early Phase 1'
        when 'PHASE1' then 'Phase 1'
        when 'PHASE1/PHASE2' then 'Phase 1/2'
        when 'PHASE2' then 'Phase 2'
        when 'PHASE2/PHASE3' then 'Phase 2/3'
        when 'PHASE3' then 'Phase 3'
        when 'PHASE4' then 'Phase 4'
        when 'NA' then 'N/A'
        else studies.phase
    end as phase_label,
    case studies.phase
        when 'EARLY_PHASE1' then 1
        when 'PHASE1' then 2
        when 'PHASE1/PHASE2' then 3
        when 'PHASE2' then 4
        when 'PHASE2/PHASE3' then 5
        when 'PHASE3' then 6
        when 'PHASE4' then 7
        when 'NA' then 8
    end as phase_order,
    studies.overall_status,
    case studies.overall_status
        when 'ACTIVE_NOT_RECRUITING' then 'Active, not recruiting'
        when 'UNKNOWN' then 'Unknown status'
        -- All others read as they are spelled.
        else
            left(studies.overall_status, 1)
            || lower(replace(substr(studies.overall_status, 2), '_', ' '))
    end as status_label,
    case
        when studies.overall_status = 'NOT_YET_RECRUITING' then 'not started'
        when studies.overall_status in ('RECRUITING', 'ENROLLING_BY_INVITATION') then 'recruiting'
        when studies.overall_status = 'ACTIVE_NOT_RECRUITING' then 'active'
        when studies.overall_status = 'COMPLETED' then 'finished'
        when studies.overall_status in ('TERMINATED', 'SUSPENDED') then 'stopped early'
        when studies.overall_status = 'WITHDRAWN' then 'never started'
        when
            studies.overall_status in (
                'AVAILABLE', 'NO_LONGER_AVAILABLE', 'TEMPORARILY_NOT_AVAILABLE',
                'APPROVED_FOR_MARKETING'
            )
            then 'expanded access'
        else 'unknown'
    end as status_group,
    case
        when studies.overall_status = 'NOT_YET_RECRUITING' then 1
        when studies.overall_status in ('RECRUITING', 'ENROLLING_BY_INVITATION') then 2
        when studies.overall_status = 'ACTIVE_NOT_RECRUITING' then 3
        when studies.overall_status = 'COMPLETED' then 4
        when studies.overall_status in ('TERMINATED', 'SUSPENDED') then 5
        when studies.overall_status = 'WITHDRAWN' then 6
        when
            studies.overall_status in (
                'AVAILABLE', 'NO_LONGER_AVAILABLE', 'TEMPORARILY_NOT_AVAILABLE',
                'APPROVED_FOR_MARKETING'
            )
            then 7
        else 8
    end as status_group_order,
    studies.last_known_status,
    studies.why_stopped,

    -- who runs and pays
    studies.lead_sponsor_key,
    sponsors.lead_sponsor,
    sponsors.lead_sponsor_class,
    coalesce(sponsors.collaborators, '{}') as collaborators,
    {{ joined("sponsors.collaborators") }} as collaborators_text,
    coalesce(sponsors.collaborator_classes, '{}') as collaborator_classes,
    {{ joined("sponsors.collaborator_classes") }} as collaborator_classes_text,
    sponsors.funding_class,
    coalesce(officials.names, '{}') as officials,
    {{ joined("officials.names") }} as officials_text,
    coalesce(officials.affiliations, '{}') as official_affiliations,
    {{ joined("officials.affiliations") }} as official_affiliations_text,

    -- what is studied
    coalesce(conditions.names, '{}') as conditions,
    {{ joined("conditions.names") }} as conditions_text,
    coalesce(keywords.names, '{}') as keywords,
    {{ joined("keywords.names") }} as keywords_text,
    coalesce(condition_headings.own, '{}') as condition_mesh_terms,
    {{ joined("condition_headings.own") }} as condition_mesh_terms_text,
    coalesce(condition_headings.ancestors, '{}') as condition_mesh_ancestors,
    {{ joined("condition_headings.ancestors") }} as condition_mesh_ancestors_text,
    coalesce(interventions.names, '{}') as interventions,
    {{ joined("interventions.names") }} as interventions_text,
    coalesce(interventions.types, '{}') as intervention_types,
    {{ joined("interventions.types") }} as intervention_types_text,
    coalesce(intervention_headings.own, '{}') as intervention_mesh_terms,
    {{ joined("intervention_headings.own") }} as intervention_mesh_terms_text,
    coalesce(intervention_headings.ancestors, '{}') as intervention_mesh_ancestors,
    {{ joined("intervention_headings.ancestors") }} as intervention_mesh_ancestors_text,

    -- design
    studies.allocation,
    studies.intervention_model,
    studies.observational_model,
    studies.time_perspective,
    studies.primary_purpose,
    studies.masking,
    studies.enrollment,
    studies.enrollment_type,
    coalesce(arms.arm_count, 0) as arm_count,
    coalesce(arms.titles, '{}') as arms,
    {{ joined("arms.titles") }} as arms_text,
    coalesce(arms.types, '{}') as arm_types,
    {{ joined("arms.types") }} as arm_types_text,

    -- what is measured
    coalesce(outcomes.primary_measures, '{}') as primary_outcomes,
    {{ joined("outcomes.primary_measures") }} as primary_outcomes_text,
    coalesce(outcomes.primary_time_frames, '{}') as primary_outcome_time_frames,
    {{ joined("outcomes.primary_time_frames") }} as primary_outcome_time_frames_text,
    coalesce(outcomes.secondary_measures, '{}') as secondary_outcomes,
    {{ joined("outcomes.secondary_measures") }} as secondary_outcomes_text,
    coalesce(outcomes.secondary_time_frames, '{}') as secondary_outcome_time_frames,
    {{ joined("outcomes.secondary_time_frames") }} as secondary_outcome_time_frames_text,
    studies.primary_outcome_count,
    studies.secondary_outcome_count,
    coalesce(outcomes.other_outcome_count, 0) as other_outcome_count,

    -- who can take part
    eligibilities.minimum_age,
    eligibilities.maximum_age,
    studies.minimum_age_years,
    studies.maximum_age_years,
    studies.includes_children,
    studies.includes_adults,
    studies.includes_older_adults,
    studies.sex,
    studies.accepts_healthy_volunteers,

    -- where
    studies.site_count,
    coalesce(sites.recruiting_site_count, 0) as recruiting_site_count,
    studies.country_count,
    studies.country_count > 1 as is_multinational,
    coalesce(us_sites.has_us_facility, false) as has_us_site,
    coalesce(countries.present, '{}') as countries,
    {{ joined("countries.present") }} as countries_text,
    coalesce(countries.removed, '{}') as removed_countries,
    {{ joined("countries.removed") }} as removed_countries_text,

    -- dates
    studies.study_first_submitted_date,
    studies.study_first_posted_date,
    studies.start_date,
    studies.start_date_precision,
    studies.start_date_type,
    studies.primary_completion_date,
    studies.primary_completion_date_precision,
    studies.primary_completion_date_type,
    studies.completion_date,
    studies.completion_date_precision,
    studies.completion_date_type,
    studies.results_first_submitted_date,
    studies.results_first_posted_date,
    studies.last_update_submitted_date,
    studies.last_update_posted_date,
    registered.verification_date,
    registered.verification_date_precision,

    -- flags
    studies.has_results,
    studies.has_expanded_access,
    studies.is_patient_registry,
    studies.has_dmc,
    studies.is_fda_regulated_drug,
    studies.is_fda_regulated_device,
    registered.is_unapproved_device,
    registered.is_ppsd,
    registered.is_us_export,
    registered.fdaaa801_violation as has_fdaaa801_violation,
    studies.plan_to_share_ipd,
    coalesce(documents.has_protocol, false) as has_protocol_document,
    coalesce(documents.has_sap, false) as has_sap_document
from studies
left join registered on studies.nct_id = registered.nct_id
left join eligibilities on studies.nct_id = eligibilities.nct_id
left join identifiers on studies.nct_id = identifiers.nct_id
left join sponsors on studies.nct_id = sponsors.nct_id
left join conditions on studies.nct_id = conditions.nct_id
left join keywords on studies.nct_id = keywords.nct_id
left join condition_headings on studies.nct_id = condition_headings.nct_id
left join intervention_headings on studies.nct_id = intervention_headings.nct_id
left join interventions on studies.nct_id = interventions.nct_id
left join arms on studies.nct_id = arms.nct_id
left join outcomes on studies.nct_id = outcomes.nct_id
left join countries on studies.nct_id = countries.nct_id
left join sites on studies.nct_id = sites.nct_id
left join us_sites on studies.nct_id = us_sites.nct_id
left join officials on studies.nct_id = officials.nct_id
left join documents on studies.nct_id = documents.nct_id
