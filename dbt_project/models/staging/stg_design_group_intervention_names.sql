-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    design_group_id,
    name,
    intervention_type,
    intervention_name,
    intervention_id
from {{ source("staging", "design_group_intervention_names") }}
