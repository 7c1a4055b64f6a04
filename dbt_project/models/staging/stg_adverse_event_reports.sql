-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    time_frame,
    description,
    frequency_threshold_raw,
    frequency_threshold,
    frequency_threshold_qualifier,
    frequency_threshold_status,
    all_cause_mortality_comment
from {{ source("staging", "adverse_event_reports") }}
