"""What our schemas are called in a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import LiteralString

from psycopg import sql

_SEARCHED = ("ctgov", "marts", "staging")


@dataclass(frozen=True)
class Schemas:
    """The schema of each purpose, by name; the fields are called as in architecture.md."""

    staging: str = "staging"
    staging_views: str = "staging_views"
    intermediate: str = "intermediate"
    marts: str = "marts"
    meta: str = "ctg_meta"

    def by_purpose(self) -> Iterator[tuple[str, str]]:
        """Each purpose with its schema."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)

    @property
    def searched(self) -> tuple[str, ...]:
        """The schemas in which people's names without a schema are looked up, in this order.

        AACT's tables come first, so that no other table of ours has the name that AACT's SQL means.
        """
        known = dict(self.by_purpose())
        return (*(known[purpose] for purpose in _SEARCHED if purpose in known), "public")

    def sql(self, statement: LiteralString) -> sql.Composed:
        """A statement with `{staging}`, `{meta}` and so on replaced by the schemas."""
        names = {purpose: sql.Identifier(name) for purpose, name in self.by_purpose()}
        return sql.SQL(statement).format(**names)
