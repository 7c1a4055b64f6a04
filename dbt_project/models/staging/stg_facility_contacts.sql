-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    facility_id,
    contact_type,
    name,
    phone,
    phone_extension,
    email,
    role
from {{ source("staging", "facility_contacts") }}
