-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    outcome_type,
    title,
    description,
    time_frame,
    population,
    reporting_status,
    anticipated_posting_month_year,
    anticipated_posting_date,
    anticipated_posting_date_first,
    anticipated_posting_date_precision,
    units,
    units_analyzed,
    param_type,
    dispersion_type,
    calculate_percentage,
    denom_units_selected
from {{ source("staging", "outcomes") }}
