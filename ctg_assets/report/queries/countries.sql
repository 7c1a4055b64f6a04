-- Studies by country, each placed at the middle (the median) of its sites' coordinates.
select
    d.country,
    count(distinct f.nct_id) as studies,
    count(distinct f.nct_id) filter (where s.overall_status = 'RECRUITING') as recruiting,
    round(percentile_cont(0.5) within group (order by d.latitude)::numeric, 2)::double precision as latitude,
    round(percentile_cont(0.5) within group (order by d.longitude)::numeric, 2)::double precision as longitude
from {marts}.fct_study_site as f
inner join {marts}.dim_site as d on f.site_key = d.site_key
inner join {marts}.dim_study as s on f.nct_id = s.nct_id
where d.country is not null
group by d.country
order by studies desc, d.country
