-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    reported_event_term_id,
    result_group_id,
    ctgov_group_code,
    event_type,
    frequency_threshold,
    adverse_event_term,
    organ_system,
    vocab,
    assessment,
    subjects_affected,
    subjects_at_risk,
    event_count
from {{ source("staging", "reported_events") }}
