-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    change_seq,
    position,
    nct_id,
    module,
    path,
    item,
    change,
    old_value,
    new_value
from {{ source("staging", "study_field_changes") }}
