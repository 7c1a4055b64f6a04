with

source as (
    select * from {{ source("staging", "design_outcomes") }}
),

renamed as (
    select
        nct_id,
        outcome_type
    from source
)

select * from renamed
