"""The dbt project: where it is, what state it is in, how it learns of the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from psycopg.pq import Conninfo

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.shipped import shipped_path

PROJECT_DIR = shipped_path("dbt_project")

# What dbt itself writes, and no source of anything.
_WRITTEN_BY_DBT = {"target", "logs", "dbt_packages"}
_SOURCE_SUFFIXES = {".sql", ".yml", ".yaml", ".csv", ".md"}

_SEEDS = "seeds/*.csv"

# What decides the rows, columns and indexes of intermediate tables and marts.
_DEFINITIONS = (
    "dbt_project.yml",
    "macros/*.sql",
    _SEEDS,
    "models/intermediate/**/*.sql",
    "models/marts/**/*.sql",
)


_SCHEMAS_OF_DBT = ("staging", "staging_views", "intermediate", "marts", "who", "meta")


def project_fingerprint() -> str:
    """A digest of the project's sources."""
    return _digest(path for path in PROJECT_DIR.rglob("*") if path.suffix in _SOURCE_SUFFIXES)


def definitions_fingerprint() -> str:
    """A digest of the SQL and seeds by which tables are built; texts, tests and staging views are no part of it."""
    return _digest(path for pattern in _DEFINITIONS for path in PROJECT_DIR.glob(pattern))


def seed_names() -> set[str]:
    """The names of the project's seeds, which are those of their tables."""
    return {path.stem for path in PROJECT_DIR.glob(_SEEDS)}


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        relative = path.relative_to(PROJECT_DIR)
        # dbt keeps .user.yml here.
        if relative.parts[0] in _WRITTEN_BY_DBT or any(p.startswith(".") for p in relative.parts):
            continue
        digest.update(f"{relative.as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def schema_environment(schemas: Schemas) -> dict[str, str]:
    """The environment variables by which the project finds the schemas that it knows."""
    known = dict(schemas.by_purpose())
    return {f"CTG_{purpose.upper()}_SCHEMA": known[purpose] for purpose in _SCHEMAS_OF_DBT}


def profile_environment(address: PostgresAddress) -> dict[str, str]:
    """The environment variables by which the project, and libpq beneath it, find database and schemas.

    Of schemas they are our own settings, so that whoever runs dbt by hand names them once.
    """
    variables = {
        "CTG_DBT_HOST": address.host,
        "CTG_DBT_PORT": str(address.port),
        "CTG_DBT_USER": address.user,
        "CTG_DBT_PASSWORD": address.password or "",
        "CTG_DBT_DBNAME": address.dbname,
        **schema_environment(address.schemas),
    }
    # What the profile does not name (sslmode and the like) libpq reads from variables of its own.
    for option in Conninfo.get_defaults():
        keyword = option.keyword.decode()
        if option.envvar is not None and keyword in address.parameters:
            variables[option.envvar.decode()] = address.parameters[keyword]
    return variables
