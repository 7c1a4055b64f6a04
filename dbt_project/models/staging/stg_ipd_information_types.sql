-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    name
from {{ source("staging", "ipd_information_types") }}
