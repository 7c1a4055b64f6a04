-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    outcome_id,
    outcome_analysis_id,
    result_group_id,
    ctgov_group_code
from {{ source("staging", "outcome_analysis_groups") }}
