-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    outcome_id,
    title
from {{ source("staging", "outcome_classes") }}
