"""The command line: one module per subject.

Belongs here: commands, their help and what they print. Does not belong here: doing what an asset does.
`app.py` lists all commands. It imports every module that declares some, so these import what takes long
(Arrow, polars, SQL, Dagster) within their commands.
"""

from ctg_assets.cli.app import main

__all__ = ["main"]
