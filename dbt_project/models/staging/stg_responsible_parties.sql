-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    responsible_party_type,
    name,
    title,
    organization,
    affiliation,
    old_name_title
from {{ source("staging", "responsible_parties") }}
