-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    status,
    name,
    city,
    state,
    zip,
    country,
    latitude,
    longitude
from {{ source("staging", "facilities") }}
