-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    facility_id,
    role,
    name,
    phone,
    phone_extension,
    email
from {{ source("staging", "facility_investigators") }}
