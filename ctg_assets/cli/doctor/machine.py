"""The machine: installed packages, limits of processes, Dagster's configuration, the UI's port."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import yaml
from packaging.requirements import Requirement

from ctg_assets.cli.doctor.findings import Finding, failed, ok, warning
from ctg_assets.settings import Settings

_GIB = 2**30
# docs/performance.md: the most that any step needs of the largest registry, with Postgres beside it.
_LEAST_MEMORY = 4 * _GIB
_LEAST_OPEN_FILES = 1024
_UI_PORT = 3000
_HOME_VARIABLE = "DAGSTER_HOME"
_INSTANCE_FILE = "dagster.yaml"


def look_at_packages(settings: Settings) -> Iterator[Finding]:
    """Whether what is installed is what we need, as another package may have replaced it."""
    del settings
    unfit = []
    for line in requires("ctg-assets") or []:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            unfit.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(found, prereleases=True):
            unfit.append(f"{needed.name} {found} is installed, {needed.specifier} is needed")
    if unfit:
        text = f"{'; '.join(unfit)}. Install ctg-assets again, or use an environment of its own"
        yield failed("packages", text)
    else:
        yield ok("packages", "all that is needed is installed, in versions that work together")


def look_at_limits(settings: Settings) -> Iterator[Finding]:
    """Whether memory and open files suffice."""
    del settings
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _LEAST_OPEN_FILES:
        text = f"a process may open {files} files only; `ulimit -n {_LEAST_OPEN_FILES}` or more"
        yield failed("limits", text)
    memory = psutil.virtual_memory().total
    if memory < _LEAST_MEMORY:
        text = (
            f"{memory / _GIB:.1f} GiB of memory; the whole registry needs {_LEAST_MEMORY // _GIB}. "
            "CTG_QUERY takes a part of it"
        )
        yield warning("limits", text)
    if memory >= _LEAST_MEMORY and files >= _LEAST_OPEN_FILES:
        yield ok("limits", f"{memory / _GIB:.0f} GiB of memory, {files:,} open files")


def look_at_dagster_home(settings: Settings) -> Iterator[Finding]:
    """Whether `dagster` commands find the state that `ctg-assets` keeps, and do not log everything."""
    configured = os.environ.get(_HOME_VARIABLE)
    home = Path(configured).expanduser() if configured else Path.cwd()
    file = home / _INSTANCE_FILE
    if configured and not home.is_absolute():
        yield failed("Dagster", f"{_HOME_VARIABLE}={configured} is no absolute path; write it out")
        return
    if not file.is_file():
        if configured:
            text = (
                f"{_HOME_VARIABLE}={configured} has no {_INSTANCE_FILE}, so that Dagster keeps its state there, apart "
                f"from {settings.data_dir}; copy ours there, or unset {_HOME_VARIABLE}"
            )
            yield warning("Dagster", text)
        else:
            yield ok("Dagster", f"its state is in {settings.data_dir / 'dagster'}")
        return
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield failed("Dagster", f"{file} is no YAML: {error}; correct it, or copy ours there")
        return
    python_logs = content.get("python_logs") or {}
    loggers = python_logs.get("managed_python_loggers") or []
    if "root" in loggers:
        text = (
            f"{file} names `root` in managed_python_loggers, with which Dagster logs its own logging for ever "
            "(dagster#32217); name ctg_assets instead"
        )
        yield failed("Dagster", text)
    elif settings.log_dir is not None and not python_logs.get("dagster_handler_config"):
        text = (
            f"{file} has no dagster_handler_config in python_logs, so that what runs log does not get into "
            f"{settings.log_dir}; copy that section of ours"
        )
        yield warning("Dagster", text)
    else:
        yield ok("Dagster", f"configured by {file}")


def look_at_ui_port(settings: Settings) -> Iterator[Finding]:
    """Whether the port of Dagster's UI is free, or taken by something."""
    del settings
    with socket.socket() as probe:
        # As servers do: a port that a server has just left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _UI_PORT))
        except OSError as error:
            text = (
                f"port {_UI_PORT} cannot be used ({error.strerror}), perhaps by a UI that runs already; another "
                "one needs `ctg-assets dev --port 3001`"
            )
            yield warning("UI", text)
        else:
            yield ok("UI", f"port {_UI_PORT} is free for `ctg-assets dev`")
