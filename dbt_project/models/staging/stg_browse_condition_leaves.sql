-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    leaf_id,
    name,
    as_found,
    relevance
from {{ source("staging", "browse_condition_leaves") }}
