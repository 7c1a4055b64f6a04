-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    reference_id,
    pmid,
    source
from {{ source("staging", "retractions") }}
