-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    snapshot_id,
    content_fingerprint,
    model_fingerprint,
    data_timestamp,
    studies,
    every_table,
    loaded_at,
    load_number
from {{ source("staging", "load_info") }}
