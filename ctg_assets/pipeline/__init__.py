"""The steps that join the rooms: planning, walking, loading, and telling what is left to do.

Belongs here: domain code that needs more than one of registry, lake, model and warehouse. Does not
belong here: Dagster, and anything that one of those rooms can do alone.
"""
