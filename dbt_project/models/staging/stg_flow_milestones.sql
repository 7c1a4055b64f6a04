-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    flow_period_id,
    title,
    comment
from {{ source("staging", "flow_milestones") }}
