-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    change_seq,
    nct_id,
    kind,
    observed_at,
    recorded_at,
    extraction_id,
    old_content_hash,
    new_content_hash,
    old_version_number,
    new_version_number,
    is_silent,
    merged_into,
    is_backfill,
    fields_changed
from {{ source("staging", "study_changes") }}
