"""Whether the marts are built from the tables as they are, by the SQL as it is."""

from __future__ import annotations

from collections.abc import Mapping

from ctg_assets.extract.extractions import spell_timestamp
from ctg_assets.load.staging import digest
from ctg_assets.marts.dbt_project import project_fingerprint
from ctg_assets.postgres.builds import last_build, load_info, record_build, staging_builds
from ctg_assets.postgres.connection import PostgresAddress

_ALL_MARTS = "(all)"


def record_marts(address: PostgresAddress) -> None:
    """Note that all marts were just built from the tables as they are."""
    info = load_info(address)
    if info is not None and info.every_table and info.data_timestamp is not None:
        timestamp = spell_timestamp(info.data_timestamp)
        fingerprint = marts_fingerprint(staging_builds(address), timestamp)
        record_build(address, address.schemas.marts, _ALL_MARTS, fingerprint)


def last_marts_fingerprint(address: PostgresAddress) -> str | None:
    """The fingerprint of the state that the marts were last built from; None if they never were."""
    build = last_build(address, address.schemas.marts, _ALL_MARTS)
    return None if build is None else build.fingerprint


def marts_fingerprint(tables: Mapping[str, str], data_timestamp: str) -> str:
    """Marts depend on the tables, on their own SQL, and on the day for which the data speak.

    What is due and late moves on with the day, and the snapshot fact with its month.
    """
    day = data_timestamp[: len("2026-11-24")]
    of_tables = digest(*(f"{name} {made}" for name, made in sorted(tables.items())))
    return f"{of_tables}/{day}/{project_fingerprint()}"
