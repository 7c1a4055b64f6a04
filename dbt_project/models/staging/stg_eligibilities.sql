-- Written by `make generate` from ctg_assets/model/tables; change it there.
select
    id,
    nct_id,
    sampling_method,
    gender,
    gender_based,
    gender_description,
    minimum_age,
    minimum_age_years,
    minimum_age_days,
    maximum_age,
    maximum_age_years,
    maximum_age_days,
    healthy_volunteers,
    population,
    criteria,
    std_ages,
    child,
    adult,
    older_adult
from {{ source("staging", "eligibilities") }}
