"""Whether the marts are built from the tables as they are, by the SQL as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ctg_assets.extract.extractions import spell_timestamp
from ctg_assets.load.staging import digest
from ctg_assets.marts.dbt_project import project_fingerprint
from ctg_assets.marts.selection import all_marts
from ctg_assets.postgres.builds import builds, load_info, staging_builds, write_builds
from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.meta import ensure_meta

# Earlier releases noted all marts as one.
_FORMER_NOTE = "(all)"


def record_marts(address: PostgresAddress, marts: Collection[str] | None = None) -> None:
    """Note that these marts, or all, were just built from the tables as they are."""
    fingerprint = _fingerprint_now(address)
    if fingerprint is None:
        return
    names = all_marts() if marts is None else marts
    with connect(address) as connection, postgres_errors("noting the build of the marts"):
        ensure_meta(connection)
        made = [(name, fingerprint, None) for name in sorted(names)]
        write_builds(connection, address.schemas.marts, made)


def outdated_marts(address: PostgresAddress, marts: Collection[str]) -> set[str]:
    """Those of these marts that were not built from the tables as they are."""
    fingerprint, built = _fingerprint_now(address), built_marts(address)
    return {name for name in marts if fingerprint is None or built.get(name) != fingerprint}


def built_marts(address: PostgresAddress) -> dict[str, str]:
    """The fingerprint of the state that each mart was last built from, by name; not of those never built."""
    return {
        build.name: build.fingerprint
        for build in builds(address, address.schemas.marts)
        if build.name != _FORMER_NOTE
    }


def _fingerprint_now(address: PostgresAddress) -> str | None:
    """What the marts would be built from now; None where not every table is loaded."""
    info = load_info(address)
    if info is None or not info.every_table or info.data_timestamp is None:
        return None
    return marts_fingerprint(staging_builds(address), spell_timestamp(info.data_timestamp))


def marts_fingerprint(tables: Mapping[str, str], data_timestamp: str) -> str:
    """Marts depend on the tables, on their own SQL, and on the day for which the data speak.

    What is due and late moves on with the day, and the snapshot fact with its month.
    """
    day = data_timestamp[: len("2026-11-24")]
    of_tables = digest(*(f"{name} {made}" for name, made in sorted(tables.items())))
    return f"{of_tables}/{day}/{project_fingerprint()}"
