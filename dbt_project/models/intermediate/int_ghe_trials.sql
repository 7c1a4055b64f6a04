{{ config(materialized="ephemeral") }}

-- Trials that have begun with the causes by which they are counted.
select
    years.nct_id,
    years.start_year,
    years.last_year,
    of_cause.cause_code
from {{ ref("int_trial_years") }} as years
inner join {{ ref("fct_study_ghe_cause") }} as of_cause on years.nct_id = of_cause.nct_id
inner join {{ ref("dim_ghe_cause") }} as causes
    on of_cause.cause_code = causes.cause_code and causes.counted_code = causes.cause_code
