-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    document_type,
    type_abbrev,
    has_protocol,
    has_icf,
    has_sap,
    document_date,
    document_date_as_sent,
    upload_raw,
    upload_date,
    upload_timestamp,
    filename,
    url,
    size
from {{ source("staging", "provided_documents") }}
