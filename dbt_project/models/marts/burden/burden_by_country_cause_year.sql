{{ config(
    unique_key="burden_key",
    indexes=[
        {"columns": ["burden_key"], "unique": true},
        {"columns": ["cause_code", "year"]},
        {"columns": ["country_code"], "type": "spgist"},
    ],
) }}

select
    {{ surrogate_key([
        "estimates.country_code", "cast(estimates.cause_code as text)",
        "cast(estimates.year as text)",
    ]) }} as burden_key,
    estimates.country_code,
    estimates.cause_code,
    estimates.year,
    coalesce(causes.cause_title, estimates.cause_title) as cause_title,
    coalesce(causes.counted_code = causes.cause_code, false) as is_counted,
    case
        when countries.who_region_since > make_date(estimates.year, 12, 31)
            then countries.former_who_region
        else countries.who_region
    end as who_region,
    estimates.population,
    estimates.deaths,
    estimates.deaths_low,
    estimates.deaths_high,
    estimates.deaths_per_100k,
    estimates.dalys,
    estimates.dalys_low,
    estimates.dalys_high,
    estimates.dalys_per_100k,
    estimates.ylls,
    estimates.ylds,
    estimates.release,
    estimates.source,
    estimates.licence
from {{ ref("int_ghe_estimates") }} as estimates
left join {{ ref("dim_ghe_cause") }} as causes on estimates.cause_code = causes.cause_code
left join {{ ref("countries") }} as countries on estimates.country_code = countries.country_code
