with

source as (
    select * from {{ source("staging", "interventions") }}
),

renamed as (
    select
        id as study_intervention_id,
        nct_id,
        position,
        intervention_type,
        name as intervention_name
    from source
)

select * from renamed
