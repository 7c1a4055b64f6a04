-- Countries that are not found under the name that they have.
select countries.country_name
from {{ ref("countries") }} as countries
left join {{ ref("country_names") }} as names
    on
        countries.country_name = names.country_name
        and countries.country_code = names.country_code
where names.country_name is null
