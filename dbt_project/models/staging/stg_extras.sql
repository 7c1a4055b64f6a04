-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    path,
    item_positions,
    value
from {{ source("staging", "extras") }}
