-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    document_id,
    document_type,
    url,
    comment
from {{ source("staging", "documents") }}
