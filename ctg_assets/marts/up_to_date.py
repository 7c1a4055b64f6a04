"""What is noted of a build of the marts, and whether they are as they should be by these notes.

Three things are noted together, since each tells another need. For each mart, what its rows were made from
(stage `marts`): tables, day and project. For each mart, the SQL that its table was made by (stage
`intermediate`): a table made by other SQL is replaced, one with other rows is not. For the staging views, the
project and which of them there are (stage `staging_views`): a load makes them again, so that they are built only
when their definition changes. How far the rows have followed the loads since is noted by dbt's macros
(`postgres/watermarks.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ctg_assets.load.staging import digest
from ctg_assets.marts.dbt_project import definitions_fingerprint, project_fingerprint
from ctg_assets.marts.selection import all_marts, marts_of_who, wanted_views
from ctg_assets.postgres.builds import (
    StandingMarts,
    builds,
    keep_builds,
    last_build,
    load_info,
    rewritten,
    staging_builds,
    write_builds,
)
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.inspection import view_names
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.times import format_data_timestamp

# The one note of all staging views; earlier releases noted all marts as one, too.
_ALL = "(all)"

_BEFORE = "/before WHO's numbers"


def note_built(address: PostgresAddress, marts: Collection[str] | None = None) -> None:
    """Note that these marts, or all, and their staging views were just built from the tables as they are."""
    schemas = address.schemas
    marts = all_marts() if marts is None else marts
    fingerprint, definitions = _fingerprint_now(address), definitions_fingerprint()
    with connect(address) as connection, postgres_errors("noting the build of the marts"):
        ensure_meta(connection)
        with connection.transaction():
            views = [(_ALL, _views_fingerprint(marts), None)]
            write_builds(connection, schemas.staging_views, views)
            made_by = [(name, definitions, None) for name in sorted(marts)]
            write_builds(connection, schemas.intermediate, made_by)
            if fingerprint is not None:
                with_who = _with_who(address)
                made_from = [
                    (name, fingerprint + with_who.get(name, ""), None) for name in sorted(marts)
                ]
                write_builds(connection, schemas.marts, made_from)


def note_dropped(
    connection: Connection, wanted: Collection[str], left_over: Collection[str]
) -> None:
    """Note, in the caller's transaction, that other marts are no more; those left over keep their definition."""
    schemas = connection.schemas
    keep_builds(connection, schemas.marts, wanted)
    keep_builds(connection, schemas.intermediate, {*wanted, *left_over})


def outdated_marts(address: PostgresAddress, marts: Collection[str]) -> set[str]:
    """Those of these marts that were not built from the tables as they are."""
    fingerprint, held = _fingerprint_now(address), built_marts(address)
    return {name for name in marts if fingerprint is None or held.get(name) != fingerprint}


def standing_marts(address: PostgresAddress, marts: Collection[str]) -> StandingMarts | None:
    """What these marts hold, if all of them were built from the tables as they are; None while some were not."""
    info = load_info(address)
    if info is None or info.data_timestamp is None or outdated_marts(address, marts):
        return None
    made_from = marts_made_from(address)
    return StandingMarts(
        info.snapshot_id,
        format_data_timestamp(info.data_timestamp),
        {name: made_from[name] for name in sorted(marts)},
    )


def marts_made_from(address: PostgresAddress) -> dict[str, str]:
    """What the rows of each mart were made from, as a text that is another whenever rows may be others.

    Copies of marts are told apart by it.
    """
    again = rewritten(address)
    return {
        build.name: build.fingerprint + (f"/{again[build.name]}" if build.name in again else "")
        for build in builds(address, address.schemas.marts)
    }


def built_marts(address: PostgresAddress) -> dict[str, str]:
    """The fingerprint of the state that each mart was last built from, by name; not of those never built.

    Of a mart that reads WHO's numbers it is as if these did not exist where it was built from those loaded now; else it is
    one that nobody wants.
    """
    with_who = _with_who(address)
    held = {}
    for build in builds(address, address.schemas.marts):
        ending = with_who.get(build.name, "")
        is_current = build.fingerprint.endswith(ending)
        held[build.name] = build.fingerprint.removesuffix(ending) + ("" if is_current else _BEFORE)
    held.pop(_ALL, None)
    return held


def _with_who(address: PostgresAddress) -> dict[str, str]:
    """What the fingerprints of marts that read WHO's numbers end with, by mart; nothing where none are loaded."""
    loaded = last_build(address, address.schemas.who, "global_health_estimates")
    if loaded is None or not loaded.rows:
        return {}
    return dict.fromkeys(marts_of_who(), f"/who:{loaded.fingerprint}")


def are_definitions_current(address: PostgresAddress, marts: Iterable[str]) -> bool:
    """Whether all that is there of these marts was made by the SQL as it is; False where nothing is."""
    made = {
        build.name: build.fingerprint for build in builds(address, address.schemas.intermediate)
    }
    there = [made[name] for name in marts if name in made]
    return bool(there) and set(there) == {definitions_fingerprint()}


def are_views_current(address: PostgresAddress, marts: Collection[str]) -> bool:
    """Whether the staging views that these marts read are there, as the project has them."""
    build = last_build(address, address.schemas.staging_views, _ALL)
    if build is None or build.fingerprint != _views_fingerprint(marts):
        return False
    # A load makes them again as they were, but for those that do not fit the new tables.
    return wanted_views(marts) <= view_names(address, address.schemas.staging_views)


def _views_fingerprint(marts: Collection[str]) -> str:
    return digest(project_fingerprint(), *sorted(wanted_views(marts)))


def _fingerprint_now(address: PostgresAddress) -> str | None:
    """What the marts would be built from now; None where not every table is loaded."""
    info = load_info(address)
    if info is None or not info.every_table or info.data_timestamp is None:
        return None
    return marts_fingerprint(staging_builds(address), format_data_timestamp(info.data_timestamp))


def marts_fingerprint(tables: Mapping[str, str], data_timestamp: str) -> str:
    """Marts depend on the tables, on their own SQL, and on the day for which the data speak.

    What is due and late moves on with the day, and the snapshot fact with its month.
    """
    day = data_timestamp[: len("2026-11-24")]
    of_tables = digest(*(f"{name} {made}" for name, made in sorted(tables.items())))
    return f"{of_tables}/{day}/{project_fingerprint()}"
