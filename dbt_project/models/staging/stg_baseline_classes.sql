-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    baseline_measure_id,
    title
from {{ source("staging", "baseline_classes") }}
