-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    change_seq,
    position,
    nct_id,
    event_type,
    subject,
    old_value,
    new_value,
    days,
    after_primary_completion,
    similarity
from {{ source("staging", "study_events") }}
