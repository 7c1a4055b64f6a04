-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    description
from {{ source("staging", "detailed_descriptions") }}
