"""The parsed dbt project, made once for all data folders of tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.settings import ENV_PREFIX
from ctg_assets_tests.support.forked_commands import forked_commands

# Ignored by git; where dbt itself would write when run by hand.
_MASTER = PROJECT_DIR / "target" / "parsed"

_PARSE = """
import sys
from pathlib import Path
from ctg_assets.orchestration.marts import dbt_project
from ctg_assets.postgres.schemas import Schemas
Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
dbt_project(Path(sys.argv[1]), Schemas())
"""


@cache
def _parse() -> None:
    # A process of its own, since dbt's libraries warn when imported, and warnings are errors here.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)
    }
    subprocess.run([forked_commands() / "code", _PARSE, str(_MASTER)], env=environment, check=True)


def give_parsed_project(data_dir: Path) -> None:
    """Put a current manifest where a data folder has it, if its schemas have their usual names."""
    _parse()
    target = data_dir / "dbt" / "manifest"
    target.mkdir(parents=True)
    for name in ("manifest.json", "manifest.fingerprint"):
        shutil.copy(_MASTER / name, target)
