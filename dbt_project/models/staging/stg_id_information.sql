-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    id_source,
    id_value,
    id_type,
    id_type_description,
    id_link
from {{ source("staging", "id_information") }}
