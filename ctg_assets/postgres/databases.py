"""The database of the embedded server: making it, renaming it, and what its sessions find without a schema."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from ctg_assets.postgres.connection import (
    Connection,
    PostgresAddress,
    connect,
    postgres_errors,
)
from ctg_assets.postgres.errors import ServerSetupError

# What we have set the search path to, noted as a setting of our own beside it. By it we also know our database.
_NOTE = "ctg_assets.search_path"
# Until somebody asks for another name; also that of releases that noted nothing.
_FIRST_NAME = "ctg"


def prepare_database(
    address: PostgresAddress, wanted: str | None, *, alone: bool
) -> PostgresAddress:
    """Make sure that the embedded server at an address has our database, with our search path; returns its address.

    It keeps its name if none is wanted, so that a command which knows no setting does not rename it back.
    Under another name than the one wanted it is renamed, which needs `alone`: nobody else uses the server. A
    search path that somebody has set for the database, or reset, stays as it is.

    Raises ServerSetupError when it cannot be renamed now, or the name is that of somebody else's database.
    """
    with (
        connect(address.database("postgres")) as connection,
        postgres_errors("preparing the database"),
    ):
        known = _databases(connection)
        ours = {name for name, settings in known.items() if _NOTE in settings}
        present = min(ours or known.keys() & {_FIRST_NAME}, default=None)
        name = wanted or present or _FIRST_NAME
        if present not in {name, None}:
            _rename(connection, str(present), name, known, alone=alone)
        elif name not in known:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        found = address.database(name)
        _set_search_path(connection, found, known.get(present or name, {}))
        return found


def _databases(connection: Connection) -> dict[str, dict[str, str]]:
    """All databases by name, with what is set for each."""
    found: list[tuple[str, list[str]]] = connection.execute(
        """
        SELECT d.datname, coalesce(s.setconfig, '{}')
        FROM pg_database AS d
        LEFT JOIN pg_db_role_setting AS s ON s.setdatabase = d.oid AND s.setrole = 0
        """
    ).fetchall()
    return {
        name: {key: value for key, _, value in (item.partition("=") for item in settings)}
        for name, settings in found
    }


def _rename(
    connection: Connection,
    former: str,
    wanted: str,
    known: Mapping[str, object],
    *,
    alone: bool,
) -> None:
    if wanted in known:
        message = (
            f"CTG_DATABASE is {wanted}, but the tables are in database {former}, and there is a database "
            f"{wanted} that ctg_assets did not make. Drop or rename that one, or set CTG_DATABASE={former}."
        )
        raise ServerSetupError(message)
    sessions = connection.execute(
        """
        SELECT count(*), string_agg(DISTINCT coalesce(nullif(application_name, ''), 'unnamed'), ', ')
        FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'
        """,
        [former],
    ).fetchone()
    count, names = sessions or (0, None)
    in_the_way = f"{count} sessions use it ({names})" if count else ""
    if not alone:
        in_the_way = in_the_way or "other ctg-assets processes use the server"
    if not in_the_way:
        try:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                    sql.Identifier(former), sql.Identifier(wanted)
                )
            )
        except psycopg.errors.ObjectInUse as error:
            in_the_way = error.diag.message_detail or str(error)
    if in_the_way:
        message = (
            f"CTG_DATABASE is {wanted}, and database {former} cannot be renamed to it now: {in_the_way}. "
            f"End them, then try again, or set CTG_DATABASE={former}."
        )
        raise ServerSetupError(message)


def _search_path_statement(address: PostgresAddress) -> sql.Composed:
    """The statement that lets every session of the database find our tables without a schema."""
    return sql.SQL("ALTER DATABASE {} SET search_path = {}").format(
        sql.Identifier(address.dbname),
        sql.SQL(", ").join(map(sql.Identifier, address.schemas.searched)),
    )


def _set_search_path(
    connection: Connection, address: PostgresAddress, settings: Mapping[str, str]
) -> None:
    wanted = ",".join(address.schemas.searched)
    noted, present = settings.get(_NOTE), settings.get("search_path")
    is_ours = present is None if noted is None else present is not None and _plain(present) == noted
    if noted == wanted or (noted is not None and not is_ours):
        return
    # Both or neither, whatever ends us in between.
    with connection.transaction():
        if is_ours:
            connection.execute(_search_path_statement(address))
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                sql.Identifier(address.dbname),
                sql.SQL(_NOTE),
                sql.Literal(wanted if is_ours else ""),
            )
        )


def _plain(search_path: str) -> str:
    return ",".join(name.strip(' "') for name in search_path.split(","))


def search_path_advice(address: PostgresAddress) -> str | None:
    """The same statement as text, if sessions of a configured server's database do not find our tables yet."""
    with (
        connect(address) as connection,
        postgres_errors(f"looking at the database {address.dbname}"),
    ):
        settings = _databases(connection).get(address.dbname, {})
    if _plain(settings.get("search_path", "")) == ",".join(address.schemas.searched):
        return None
    return _search_path_statement(address).as_string()
