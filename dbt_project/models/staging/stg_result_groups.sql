-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    result_type,
    outcome_id,
    ctgov_group_code,
    title,
    description,
    design_group_id,
    design_group_match
from {{ source("staging", "result_groups") }}
