"""The data folder, its disk, and the files that settings name."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator

from ctg_assets.aact.mesh_file import descriptors
from ctg_assets.cli.doctor.findings import Finding, failed, ok, warning
from ctg_assets.extract.search_file import saved_searches
from ctg_assets.feed.config import read_notified, read_sinks, secret_of
from ctg_assets.feed.history_events import EVENT_NAMES
from ctg_assets.lake import existing_lake
from ctg_assets.settings import Settings, is_secret, variable
from ctg_assets.settings_file import find_settings_file
from ctg_assets.storage.data_folder import STATE, data_folder, file_lock
from ctg_assets.storage.objects import unfit_store

_GB = 10**9

# The whole registry, 600,000 studies: docs/performance.md.
_WHOLE_REGISTRY_BYTES = 60 * _GB
# A refresh writes what changed anew before it removes what was; less than this fills up within a day.
_LEAST_BYTES = 5 * _GB


def look_at_settings_file(settings: Settings) -> Iterator[Finding]:
    """Whether a file with a secret in it can be read by others."""
    del settings
    file = find_settings_file(os.environ)
    if file is None:
        return
    secrets = [name for name in Settings.model_fields if is_secret(name)]
    held = [variable(name) for name in secrets if file.values.get(variable(name))]
    mode = file.path.stat().st_mode
    if held and mode & (stat.S_IRGRP | stat.S_IROTH):
        text = f"{file.path} holds {', '.join(held)} and others may read it; chmod 600 {file.path}"
        yield warning("settings file", text)
    else:
        yield ok("settings file", str(file.path))


def look_at_data_folder(settings: Settings) -> Iterator[Finding]:
    """Whether files can be made, moved and locked there, and nobody else's are in the way."""
    folder = data_folder(settings, STATE)
    probe = folder / f".doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"x")
        os.link(probe, probe.with_suffix(".linked"))
        probe.rename(probe.with_suffix(".moved"))
    finally:
        for suffix in ("", ".linked", ".moved"):
            probe.with_suffix(suffix).unlink(missing_ok=True)
    with file_lock(settings, "doctor"):
        pass
    held = f"; {_held(settings)}" if settings.data_url is None else ""
    yield ok("data folder", f"{settings.data_dir} can be written to and locked{held}")


def look_at_object_store(settings: Settings) -> Iterator[Finding]:
    """Whether the lake's store is in reach, gives us our rights, and keeps two machines apart."""
    if settings.data_url is None:
        return
    problem = unfit_store(settings.data_url)
    if problem is not None:
        yield failed("object store", problem)
        return
    text = (
        f"{settings.data_url} can be listed, read, written to and deleted from, and honours conditions; "
        f"{_held(settings)}"
    )
    yield ok("object store", text)


def _held(settings: Settings) -> str:
    plans = existing_lake(settings).extractions.plans()
    return f"{len(plans)} extractions" if plans else "nothing is extracted yet"


def look_at_disk(settings: Settings) -> Iterator[Finding]:
    """Whether there is room for what a refresh writes."""
    folder = data_folder(settings, STATE)
    free = shutil.disk_usage(folder).free
    # Tables and embedded server lie on this disk, wherever the lake is.
    is_first = settings.data_url is None and existing_lake(settings).snapshots.latest() is None
    whole = is_first and not settings.query
    if free < _LEAST_BYTES:
        text = (
            f"only {free / _GB:.1f} GB are free at {settings.data_dir}; free at least "
            f"{_LEAST_BYTES // _GB} GB, or set CTG_DATA_DIR to another disk"
        )
        yield failed("disk", text)
    elif whole and free < _WHOLE_REGISTRY_BYTES:
        text = (
            f"{free / _GB:.0f} GB are free at {settings.data_dir}; the whole registry takes up to "
            f"{_WHOLE_REGISTRY_BYTES // _GB} GB with all tables and marts. CTG_QUERY takes a part of the registry, "
            "CTG_AACT=false and CTG_MARTS leave tables out"
        )
        yield warning("disk", text)
    else:
        yield ok("disk", f"{free / _GB:.0f} GB are free at {settings.data_dir}")


def look_at_feed_file(settings: Settings) -> Iterator[Finding]:
    """Whether the sinks can be read, and the secrets that they name are there."""
    if settings.feed_file is None:
        return
    sinks = [*read_sinks(settings.feed_file, EVENT_NAMES), *read_notified(settings.feed_file)]
    for sink in sinks:
        secret_of(sink, os.environ)
    yield ok("feed file", f"{settings.feed_file} names {', '.join(sink.name for sink in sinks)}")


def look_at_searches_file(settings: Settings) -> Iterator[Finding]:
    """Whether the saved searches can be read."""
    if settings.searches_file is not None:
        searches = saved_searches(settings.searches_file)
        yield ok("searches file", f"{settings.searches_file} has {len(searches)} searches")


def look_at_mesh_file(settings: Settings) -> Iterator[Finding]:
    """Whether NLM's file can be read to its end."""
    if settings.mesh_file is not None:
        count = sum(1 for _ in descriptors(settings.mesh_file))
        yield ok("MeSH file", f"{settings.mesh_file} has {count:,} descriptors")
