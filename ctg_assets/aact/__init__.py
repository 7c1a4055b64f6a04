"""AACT's schema `ctgov`, so that SQL written for AACT runs unchanged: its tables, views, functions, old labels.

Belongs here: what AACT's tables look like and how they follow from staging, keeping them up to date, and
what AACT offers besides tables (its downloads). Does not belong here: our own model of a study
(`model/`), and marts that answer questions (`dbt_project/`).

`columns.csv` has AACT's names, order and types, as its published dictionary gives them. Which staging
column is the same stands where that column is declared (`model/tables/`); where AACT means something
else by it, `definitions.py` says what.
"""
