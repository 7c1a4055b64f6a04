"""WHO's indicators and Global Health Estimates: a second source beside the registry.

Belongs here: which indicators there are, both of WHO's APIs, walks, releases, and the tables of schema `who`.
Does not belong here: HTTP in general (`registry/requests.py`), studies, marts, Dagster.
"""
