-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    flow_period_id,
    flow_drop_withdrawal_id,
    result_group_id,
    ctgov_group_code,
    period,
    reason,
    count_raw,
    count,
    count_qualifier,
    count_status,
    drop_withdraw_comment,
    reason_comment
from {{ source("staging", "drop_withdrawals") }}
