"""The client of the registry's API v2: requests, paging, the rate limit, typed failures.

Belongs here: everything that knows HTTP and the API's manners. Does not belong here: files, SQL, Dagster.
"""
