-- Names of countries that the seed country_names does not have, and the studies that name them.
{{ config(severity="warn") }}

select
    country_name,
    count(*) as studies
from {{ ref("fct_study_country") }}
where country_code is null
group by country_name
