"""What people and tools read about the staging tables, derived from their declarations.

Belongs here: texts as pure functions of the tables: dbt's sources and staging views (`dbt.py`), the
data dictionary (`dictionary.py`), diagrams of references (`relationships.py`). Does not belong here:
facts that are not in the declarations, and where the texts are kept (`codegen.py`).
"""

ORIGIN = "Written by `make generate` from ctg_assets/model/tables; change it there."
"""The first line of every derived file."""
