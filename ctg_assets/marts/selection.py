"""Which marts are wanted, and what they are made from, told without dbt: it takes seconds to import."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.setting_values import ALL_MARTS, NO_MARTS
from ctg_assets.settings import Settings
from ctg_assets.shipped import shipped_marts

_VIEWS = "models/staging/*.sql"
_REF = re.compile(r"""\bref\(\s*["'](\w+)["']\s*\)""")
_SQL_COMMENT = re.compile(r"--[^\n]*|\{#.*?#\}", re.DOTALL)


def all_marts() -> frozenset[str]:
    """The names of all marts that the project has."""
    return frozenset(name for names in shipped_marts().values() for name in names)


def selected_marts(settings: Settings) -> frozenset[str]:
    """The marts that the settings ask for, and those that these are made from."""
    if settings.marts == NO_MARTS:
        return frozenset()
    marts = all_marts()
    if settings.marts == ALL_MARTS:
        return marts
    folders = shipped_marts()
    named = {mart for name in settings.marts.split(",") for mart in folders.get(name, [name])}
    return marts & needed_models(named)


def needed_models(marts: Collection[str]) -> frozenset[str]:
    """These marts and all models that they are made from, directly or not."""
    parents = {
        path.stem: {*_refs(path.read_text())} for path in PROJECT_DIR.glob("models/**/*.sql")
    }
    needed: set[str] = set()
    todo = {*marts}
    while todo:
        needed |= todo
        todo = set().union(*(parents.get(name, set()) for name in todo)) - needed
    return frozenset(needed)


def wanted_views(marts: Collection[str]) -> frozenset[str]:
    """The staging views to be there: every one beside all marts, else those that these marts are made from."""
    views = frozenset(path.stem for path in PROJECT_DIR.glob(_VIEWS))
    return views if all_marts() <= {*marts} else views & needed_models(marts)


def _refs(sql: str) -> Iterator[str]:
    return (found[1] for found in _REF.finditer(_SQL_COMMENT.sub("", sql)))
