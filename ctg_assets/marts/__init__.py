"""Marts: running dbt on the loaded tables.

Belongs here: finding and compiling the dbt project, what its tests found, past months. Does not belong here:
the SQL of the models (`dbt_project`).
"""
