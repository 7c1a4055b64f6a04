-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    event_type,
    description,
    creation_date,
    creation_date_as_sent,
    issued_date,
    issued_date_as_sent,
    release_date,
    release_date_as_sent,
    posted_date,
    posted_date_as_sent
from {{ source("staging", "violation_events") }}
