{{ config(
    unique_key="adverse_event_arm_id",
    indexes=[
        {"columns": ["adverse_event_arm_id"], "unique": true},
        {"columns": ["nct_id"]},
    ],
) }}

select
    id as adverse_event_arm_id,
    nct_id,
    result_group_id,
    ctgov_group_code,
    reported_event_term_id,
    event_type,
    adverse_event_term,
    organ_system,
    subjects_affected,
    subjects_at_risk,
    event_count,
    cast(subjects_affected as double precision) / nullif(subjects_at_risk, 0) as share_affected,
    coalesce(subjects_affected > subjects_at_risk, false) as is_affected_above_at_risk
from {{ of_changed_studies(ref("stg_reported_events")) }}
