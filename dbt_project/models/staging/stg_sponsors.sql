-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    agency_class,
    lead_or_collaborator,
    name
from {{ source("staging", "sponsors") }}
