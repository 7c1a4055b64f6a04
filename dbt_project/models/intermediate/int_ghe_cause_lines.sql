{{ config(materialized="ephemeral") }}

-- Each cause with itself and every cause that it is a part of.
with recursive lines as (
    select
        cause_code,
        cause_code as holder_code,
        parent_code
    from {{ ref("ghe_causes") }}
    union all
    select
        lines.cause_code,
        holders.cause_code as holder_code,
        holders.parent_code
    from lines
    inner join {{ ref("ghe_causes") }} as holders on lines.parent_code = holders.cause_code
)

select
    cause_code,
    holder_code
from lines
