"""The programs that `forking.py` runs, with all that they import; to be imported by nothing else, since that takes long."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dagster._cli import main as dagster_main
from dbt.cli.main import cli as dbt_main

from ctg_assets.cli import main as ctg_assets_main
from ctg_assets_tests.orchestration import dying, hurried_daemon
from ctg_assets_tests.support.parsed_once import (
    ask_nobody_who_calls,
    keep_what_is_parsed,
    use_once,
    write_json_at_once,
)
from ctg_assets_tests.support.revisions_once import keep_revisions

# What commands import only when they need it.
_USED_BY_COMMANDS = (
    "ctg_assets.cli.stages",
    "ctg_assets.definitions",
    "ctg_assets.orchestration.instance",
    "ctg_assets.orchestration.refresh",
    "dagster._core.definitions.antlr_asset_selection.antlr_asset_selection",
    "dagster._core.storage.noop_compute_log_manager",
    "dbt.adapters.postgres",
    "dbt.task.build",
    "httpcore",
    "sqlglot.dialects.postgres",
    "sqlparse",
)


def all_programs(folder: Path) -> Mapping[str, Callable[[], object]]:
    """The programs by name, of which `folder` has those that ask for them."""
    for name in _USED_BY_COMMANDS:
        import_module(name)
    keep_what_is_parsed()
    write_json_at_once()
    ask_nobody_who_calls()
    use_once(folder)
    keep_revisions(folder)
    # Ours run dbt with the Python that runs, or what lies beside it; theirs, too, is to be one that is forked.
    _run_dbt_with(SimpleNamespace(executable=str(folder / "python")))
    return {
        "ctg-assets": ctg_assets_main,
        "code-server": hurried_daemon.serve_code,
        "dagster": dagster_main,
        "dagster-daemon": hurried_daemon.main,
        "dbt": dbt_main,
        "dying": dying.main,
        "code": _code,
        "worker": _worker,
    }


def _run_dbt_with(python: Any) -> None:
    """Have ours find dbt beside this Python, or run that."""
    for name in ("ctg_assets.orchestration.marts", "ctg_assets.marts.compiled_sql"):
        module: Any = import_module(name)
        module.sys = python


def _code() -> None:
    """Be `python -c`."""
    sys.argv[0] = "-c"
    exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})


def _worker() -> None:
    """Be `python -u -c`, as xdist starts its workers: tests find all as it is, and are told of warnings."""
    _run_dbt_with(sys)
    sys.warnoptions.clear()
    warnings.resetwarnings()
    sys.argv.remove("-u")
    sys.argv.remove("-c")
    _code()
