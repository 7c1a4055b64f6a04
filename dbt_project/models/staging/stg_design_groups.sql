-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    group_type,
    title,
    description
from {{ source("staging", "design_groups") }}
