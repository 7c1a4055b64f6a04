-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    pmid,
    reference_type,
    citation
from {{ source("staging", "study_references") }}
