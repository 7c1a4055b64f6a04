"""The whole of ClinicalTrials.gov as Dagster assets.

The rooms of this package, and what each must not do, are listed in docs/architecture.md.
"""

__version__ = "0.1.0"
