"""What holds in the sessions of a load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.sessions import session
from ctg_assets_tests.postgres.debian_server import debian_server

pytestmark = pytest.mark.postgres

_ROLE = "without_rights"


@pytest.fixture(scope="module")
def debian() -> Iterator[PostgresAddress]:
    """A server that has LZ4, for a role without special rights."""
    with debian_server() as owner:
        with connect(owner) as connection:
            connection.execute(f"CREATE ROLE {_ROLE} LOGIN NOSUPERUSER")
        yield replace(owner, user=_ROLE)


def _compression(address: PostgresAddress) -> str:
    with session(address) as connection:
        return str(connection.execute("SHOW default_toast_compression").fetchall()[0][0])


def test_long_texts_are_compressed_with_lz4(debian: PostgresAddress) -> None:
    """Any role may ask for it."""
    assert _compression(debian) == "lz4"


def test_a_choice_of_compression_stays(debian: PostgresAddress) -> None:
    """Whoever chose pglz for a role had a reason."""
    with connect(debian) as connection:
        connection.execute(f"ALTER ROLE {_ROLE} SET default_toast_compression = pglz")
    assert _compression(debian) == "pglz"


def test_a_server_without_lz4_keeps_what_it_has(address: PostgresAddress) -> None:
    """The embedded server is such a one."""
    assert _compression(address) == "pglz"
