"""SQL as AACT's users write it, each statement with the function that works out its answer from the JSON.

The statements are of our own making, one or more for each shape of use found in public code. Names have
no schema, as there; the search path makes them AACT's.
"""
