-- Causes that WHO ranks, of which the fewest trials were under way for each million DALYs in the newest year of its estimates.
select
    cause_title as cause,
    round(trials_per_million_dalys::numeric, 1) as trials_per_million_dalys,
    trials_under_way as trials,
    round(dalys::numeric) as dalys,
    year,
    release,
    licence
from {marts}.research_gap_by_cause as g
where is_newest_year and is_ranked and g.trials_per_million_dalys is not null
order by g.trials_per_million_dalys, dalys desc, cause
limit 10
