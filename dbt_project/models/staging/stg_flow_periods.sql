-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    title
from {{ source("staging", "flow_periods") }}
