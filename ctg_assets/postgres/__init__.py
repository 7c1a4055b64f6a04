"""Postgres: the embedded server, connections, DDL, COPY, and our notes in schema `ctg_meta`.

Belongs here: everything that talks SQL whatever it is for. Does not belong here: loads, marts, and paths in
a study's JSON.
"""
