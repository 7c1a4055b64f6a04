-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    release_date,
    release_date_as_sent,
    unrelease_date,
    unrelease_date_as_sent,
    unrelease_date_unknown,
    reset_date,
    reset_date_as_sent,
    mcp_release_n
from {{ source("staging", "submissions") }}
