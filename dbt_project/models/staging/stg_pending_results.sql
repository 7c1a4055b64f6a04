-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    event,
    event_date_description,
    event_date,
    date_unknown
from {{ source("staging", "pending_results") }}
