with

source as (
    select * from {{ source("staging", "studies") }}
),

renamed as (
    select
        nct_id,
        content_hash,

        -- titles and origin
        brief_title,
        official_title,
        acronym,
        source,
        source_class,

        -- status
        overall_status,
        last_known_status,
        why_stopped,
        has_expanded_access,
        has_results,

        -- dates
        study_first_submitted_date,
        study_first_posted_date,
        last_update_submitted_date,
        last_update_posted_date,
        results_first_submitted_date,
        results_first_posted_date,
        start_date,
        start_date_precision,
        start_date_type,
        primary_completion_date,
        primary_completion_date_precision,
        primary_completion_date_type,
        completion_date,
        completion_date_precision,
        completion_date_type,

        -- design
        study_type,
        phase,
        enrollment,
        enrollment_is_unknown,
        enrollment_type,
        number_of_arms,
        number_of_groups,
        patient_registry as is_patient_registry,

        -- oversight and sharing
        has_dmc,
        is_fda_regulated_drug,
        is_fda_regulated_device,
        plan_to_share_ipd
    from source
)

select * from renamed
