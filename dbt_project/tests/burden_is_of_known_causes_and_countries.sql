-- Causes and countries of WHO's estimates that our lists do not have; such causes are compared with
-- nothing.
{{ config(severity="warn") }}

select
    burden.cause_code,
    burden.cause_title,
    burden.country_code,
    count(*) as estimates
from {{ ref("burden_by_country_cause_year") }} as burden
left join {{ ref("ghe_causes") }} as causes on burden.cause_code = causes.cause_code
left join {{ ref("countries") }} as countries on burden.country_code = countries.country_code
where causes.cause_code is null or countries.country_code is null
group by burden.cause_code, burden.cause_title, burden.country_code
