-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    allocation,
    intervention_model,
    intervention_model_description,
    primary_purpose,
    observational_model,
    time_perspective,
    masking,
    masking_description,
    who_masked,
    subject_masked,
    caregiver_masked,
    investigator_masked,
    outcomes_assessor_masked
from {{ source("staging", "designs") }}
