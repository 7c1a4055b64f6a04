-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    nct_id,
    valid_from,
    valid_to,
    is_current,
    version_number,
    content_hash,
    ended_by,
    first_observed_at,
    last_observed_at,
    last_update_post_date,
    json_bytes,
    extraction_id
from {{ source("staging", "study_versions") }}
