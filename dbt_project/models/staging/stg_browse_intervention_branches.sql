-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    abbrev,
    name
from {{ source("staging", "browse_intervention_branches") }}
