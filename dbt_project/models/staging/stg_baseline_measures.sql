-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    title,
    description,
    population_description,
    param_type,
    dispersion_type,
    units,
    calculate_percentage,
    denom_units_selected
from {{ source("staging", "baseline_measures") }}
