{{ config(severity="warn", meta={"dagster": {"ref": {"name": "dim_sponsor"}}}) }}

-- In a database of locale C, names that differ in the case of letters beyond ASCII stay apart, and
-- keys differ from those of other databases. Create it with a UTF-8 locale such as C.UTF-8.
select lower('É') as folded
where lower('É') <> 'é'
