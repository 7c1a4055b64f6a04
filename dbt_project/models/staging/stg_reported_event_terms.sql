-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    position,
    event_type,
    adverse_event_term,
    organ_system,
    vocab,
    assessment,
    notes
from {{ source("staging", "reported_event_terms") }}
