-- Examples of the seed identifier_patterns in which its own pattern does not find the identifier.
select
    pattern_order,
    example
from {{ ref("identifier_patterns") }}
where
    lower(regexp_replace(
        substring(upper(example) from '((?<![0-9A-Z])(?:' || pattern || ')(?![0-9]))'),
        pattern, replacement
    )) is distinct from lower(example_id)
