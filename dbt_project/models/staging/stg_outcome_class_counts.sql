-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    outcome_id,
    outcome_class_id,
    denom_position,
    result_group_id,
    ctgov_group_code,
    units,
    count_raw,
    count,
    count_qualifier,
    count_status
from {{ source("staging", "outcome_class_counts") }}
