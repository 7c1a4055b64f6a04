"""All that is looked at, in the order in which one thing needs another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ctg_assets.cli.doctor.files import (
    look_at_data_folder,
    look_at_disk,
    look_at_feed_file,
    look_at_mesh_file,
    look_at_object_store,
    look_at_searches_file,
    look_at_settings_file,
)
from ctg_assets.cli.doctor.findings import Finding, failed, ok
from ctg_assets.cli.doctor.machine import (
    look_at_dagster_home,
    look_at_limits,
    look_at_packages,
    look_at_ui_port,
)
from ctg_assets.cli.doctor.services import (
    look_at_mail,
    look_at_postgres,
    look_at_registry,
    look_at_workers,
)
from ctg_assets.errors import CtgAssetsError
from ctg_assets.settings import Settings, SettingsError, load_settings

_DATA_FOLDER = "data folder"
_LOCAL: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "settings file": look_at_settings_file,
    "packages": look_at_packages,
    "limits": look_at_limits,
    _DATA_FOLDER: look_at_data_folder,
    "object store": look_at_object_store,
    "disk": look_at_disk,
    "Dagster": look_at_dagster_home,
    "UI": look_at_ui_port,
    "feed file": look_at_feed_file,
    "searches file": look_at_searches_file,
    "MeSH file": look_at_mesh_file,
    "Postgres": look_at_postgres,
    "workers": look_at_workers,
}
_REMOTE: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "mail": look_at_mail,
    "registry": look_at_registry,
}


def examine(*, offline: bool = False) -> Iterator[Finding]:
    """Look at everything and say what was found, one thing after the other; `offline` spares registry and mail server.

    What cannot be looked at is a finding, too; without usable settings or a data folder it is the last. Nothing is changed, but that an embedded server is made and
    started, which stops afterwards, and that the registry is asked one question.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        yield failed("settings", str(error))
        return
    yield ok("settings", "all can be used; `ctg-assets config` shows them")
    looks = _LOCAL if offline else {**_LOCAL, **_REMOTE}
    for subject, look in looks.items():
        try:
            yield from look(settings)
        except (CtgAssetsError, OSError) as error:
            yield failed(subject, str(error))
            if subject == _DATA_FOLDER:
                # All the rest would fail for the same reason.
                return
