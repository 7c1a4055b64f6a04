"""What our schemas are called in a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import LiteralString

from psycopg import sql

_SEARCHED = ("ctgov", "marts", "staging")


@dataclass(frozen=True)
class Schemas:
    """The schema of each purpose, by name; the fields are called as in architecture.md.

    A purpose without a schema is not wanted in this database.
    """

    staging: str = "staging"
    staging_views: str = "staging_views"
    intermediate: str = "intermediate"
    marts: str = "marts"
    ctgov: str | None = "ctgov"
    ctgov_2023: str | None = "ctgov_2023"
    who: str = "who"
    meta: str = "ctg_meta"

    def by_purpose(self) -> Iterator[tuple[str, str]]:
        """Each purpose that has a schema, with the schema."""
        for field in fields(self):
            schema = getattr(self, field.name)
            if schema is not None:
                yield field.name, schema

    def of_refresh(self) -> Iterator[tuple[str, str]]:
        """As `by_purpose`, without those that only somebody makes who asks for them."""
        return ((purpose, schema) for purpose, schema in self.by_purpose() if purpose != "who")

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
