-- Rows of the seed organisation_names that lead to a name which leads on: a parent with a parent, a
-- name of a name.
select
    names.sponsor_name,
    names.organisation_name
from {{ ref("organisation_names") }} as names
inner join {{ ref("organisation_names") }} as further
    on names.organisation_name = further.sponsor_name
where
    further.relation in ('former name', 'other name')
    or names.relation in ('subsidiary', 'predecessor')
