-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    flow_period_id,
    flow_milestone_id,
    result_group_id,
    ctgov_group_code,
    title,
    period,
    description,
    milestone_description,
    count_raw,
    count,
    count_qualifier,
    count_status,
    count_units,
    count_units_num,
    count_units_qualifier,
    count_units_status
from {{ source("staging", "milestones") }}
