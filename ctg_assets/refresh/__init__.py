"""Refresh: what is due, what may go on, what is kept, and how it all stands.

Belongs here: decisions across stages. Does not belong here: doing a stage's work, and Dagster.
"""
