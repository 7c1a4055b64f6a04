-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    contact_type,
    name,
    phone,
    phone_extension,
    email,
    role
from {{ source("staging", "central_contacts") }}
