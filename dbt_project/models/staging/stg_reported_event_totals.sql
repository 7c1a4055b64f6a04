-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    result_group_id,
    ctgov_group_code,
    event_type,
    classification,
    subjects_affected,
    subjects_at_risk
from {{ source("staging", "reported_event_totals") }}
