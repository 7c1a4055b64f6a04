-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    role,
    name,
    affiliation
from {{ source("staging", "overall_officials") }}
