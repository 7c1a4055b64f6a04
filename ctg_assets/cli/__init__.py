"""The command line: one module per subject, and what people see.

Belongs here: commands, their help and what they print. Does not belong here: doing what an asset does.
"""

from ctg_assets.cli.app import main

__all__ = ["main"]
