with

source as (
    select * from {{ source("staging", "countries") }}
),

renamed as (
    select
        nct_id,
        name as country,
        removed as is_removed
    from source
)

select * from renamed
