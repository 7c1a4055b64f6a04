-- Trials under way in the newest year of WHO's estimates by country, for each million DALYs of all causes.
with burden as (
    select
        country_code,
        year,
        sum(dalys) as dalys,
        max(release) as release,
        max(licence) as licence
    from {marts}.research_gap
    where is_newest_year
    group by country_code, year
)
select
    c.country_name as country,
    c.numeric_code,
    round((coalesce(t.trials_under_way, 0) * 1000000 / b.dalys)::numeric, 1) as trials_per_million_dalys,
    coalesce(t.trials_under_way, 0) as trials,
    round(b.dalys::numeric) as dalys,
    b.year,
    b.release,
    b.licence
from burden as b
inner join {marts}.dim_country as c on b.country_code = c.country_code
left join {marts}.trials_by_country_year as t on b.country_code = t.country_code and b.year = t.year
where b.dalys > 0
order by trials_per_million_dalys desc, country
