-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    intervention_id,
    name
from {{ source("staging", "intervention_other_names") }}
