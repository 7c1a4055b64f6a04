-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    number_of_facilities,
    has_us_facility,
    has_single_facility,
    number_of_primary_outcomes_to_measure,
    number_of_secondary_outcomes_to_measure,
    number_of_other_outcomes_to_measure,
    were_results_reported,
    number_of_sae_subjects,
    number_of_nsae_subjects,
    registered_in_calendar_year,
    actual_duration,
    actual_duration_days,
    months_to_report_results,
    days_to_report_results,
    minimum_age_num,
    minimum_age_unit,
    maximum_age_num,
    maximum_age_unit
from {{ source("staging", "calculated_values") }}
