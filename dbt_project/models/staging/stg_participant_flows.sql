-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    recruitment_details,
    pre_assignment_details,
    units_analyzed
from {{ source("staging", "participant_flows") }}
