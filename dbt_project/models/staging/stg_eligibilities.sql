with

source as (
    select * from {{ source("staging", "eligibilities") }}
),

renamed as (
    select
        nct_id,
        gender as sex,
        minimum_age_years,
        maximum_age_years,
        child as includes_children,
        adult as includes_adults,
        older_adult as includes_older_adults,
        healthy_volunteers as accepts_healthy_volunteers
    from source
)

select * from renamed
