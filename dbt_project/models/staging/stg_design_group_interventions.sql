-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    design_group_id,
    intervention_id,
    arm_group_label
from {{ source("staging", "design_group_interventions") }}
