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
# By what a model's SQL finds schema `who`.
_WHO = "CTG_WHO_SCHEMA"
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
    parents = _parents()
    needed: set[str] = set()
    todo = {*marts}
    while todo:
        needed |= todo
        todo = set().union(*(parents.get(name, set()) for name in todo)) - needed
    return frozenset(needed)


def models_to_build(outdated: Collection[str]) -> frozenset[str]:
    """What has to be built for these marts, when all others are as they should be."""
    return needed_models(outdated) - (all_marts() - {*outdated})


def wanted_views(marts: Collection[str]) -> frozenset[str]:
    """The staging views to be there: every one beside all marts, else those that these marts are made from."""
    views = frozenset(path.stem for path in PROJECT_DIR.glob(_VIEWS))
    return views if all_marts() <= {*marts} else views & needed_models(marts)


def marts_of_who(*, directly: bool = False) -> frozenset[str]:
    """The marts that change with WHO's numbers: those that read them, and unless `directly`, those made from these."""
    parents = _parents()
    readers = {
        path.stem
        for path in PROJECT_DIR.glob("models/intermediate/**/*.sql")
        if _WHO in path.read_text()
    }
    found = {name for name, above in parents.items() if above & readers}
    grown: set[str] = set()
    while not directly and found != grown:
        grown = found
        found = grown | {name for name, above in parents.items() if above & grown}
    return frozenset(found) & all_marts()


def _parents() -> dict[str, set[str]]:
    """What each model refers to, by name."""
    return {path.stem: {*_refs(path.read_text())} for path in PROJECT_DIR.glob("models/**/*.sql")}


def _refs(sql: str) -> Iterator[str]:
    return (found[1] for found in _REF.finditer(_SQL_COMMENT.sub("", sql)))
