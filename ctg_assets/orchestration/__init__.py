"""Dagster: assets, checks, sensors, jobs and resources as thin calls into the other rooms.

Belongs here: what Dagster needs to know to run, show and repeat our steps. Does not belong here:
how a step is done.
"""

import warnings

import dagster as dg

# A range of pages in one run needs a backfill policy, which Dagster 1.13 still calls beta.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
# So it calls what `python_logs` of dagster.yaml says of handlers.
warnings.filterwarnings(
    "ignore", message="Handling yaml-defined logging configuration", category=dg.BetaWarning
)
