-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    pi_employee,
    restrictive_agreement,
    restriction_type,
    other_details
from {{ source("staging", "result_agreements") }}
