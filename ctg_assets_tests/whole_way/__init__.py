"""Tests from the registry to the tables, with odd studies, churn and recorded studies."""
