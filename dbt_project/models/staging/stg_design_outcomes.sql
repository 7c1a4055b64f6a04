-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    outcome_type,
    measure,
    time_frame,
    description
from {{ source("staging", "design_outcomes") }}
