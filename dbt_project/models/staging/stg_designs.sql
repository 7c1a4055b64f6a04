with

source as (
    select * from {{ source("staging", "designs") }}
),

renamed as (
    select
        nct_id,
        allocation,
        intervention_model,
        observational_model,
        time_perspective,
        primary_purpose,
        masking
    from source
)

select * from renamed
