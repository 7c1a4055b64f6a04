{{ config(severity="warn") }}

-- In a database of locale C, names that differ in the case of letters beyond ASCII stay apart, and
-- keys differ from those of other databases. Create it with a UTF-8 locale such as C.UTF-8.
-- Dagster shows a test only where it depends on an asset, hence:
-- depends_on: {{ ref("dim_sponsor") }}
select lower('É') as folded
where lower('É') <> 'é'
