-- Every mart that reads the one row of load_info would be empty or doubled otherwise.
select count(*) as row_count
from {{ source("staging", "load_info") }}
having count(*) <> 1
