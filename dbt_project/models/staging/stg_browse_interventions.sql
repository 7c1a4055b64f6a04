-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    mesh_id,
    mesh_term,
    downcase_mesh_term,
    mesh_type
from {{ source("staging", "browse_interventions") }}
