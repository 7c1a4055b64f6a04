-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    url,
    description
from {{ source("staging", "links") }}
