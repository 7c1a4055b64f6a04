"""The data model: the registry's field tree, the tables derived from it, flattening and value parsing.

Belongs here: what a study looks like and how it becomes rows. Does not belong here: any input or
output (files, HTTP, SQL connections) and any Dagster.
"""
