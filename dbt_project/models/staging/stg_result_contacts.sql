-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    name,
    organization,
    email,
    phone,
    extension
from {{ source("staging", "result_contacts") }}
