-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    baseline_measure_id,
    baseline_class_id,
    denom_position,
    result_group_id,
    ctgov_group_code,
    units,
    count_raw,
    count,
    count_qualifier,
    count_status
from {{ source("staging", "baseline_class_counts") }}
