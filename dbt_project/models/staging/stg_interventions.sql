-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    intervention_type,
    name,
    description
from {{ source("staging", "interventions") }}
