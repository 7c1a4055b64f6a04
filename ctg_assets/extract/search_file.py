"""Saved searches: the file that names them, and the one that there is without a file."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ctg_assets.errors import CtgAssetsError, ExitCode

# Ids of results are this, times a hundred million, plus the study's number. With 90 million searches they
# stay below 2^53, so that R, JavaScript and pandas have them exactly where they read them as doubles.
_MOST_SEARCH_IDS = 90_000_000


class SearchFileError(CtgAssetsError):
    """The file of saved searches cannot be used until a person changes it; the message says how."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


class SavedSearch(BaseModel):
    """A search with a name: what the registry is asked, and the group that it belongs to."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, strict=True)

    name: str = Field(min_length=1, description="a text, by which SQL finds the search's studies")
    query: str = Field(min_length=1, description="an Essie expression, as in the registry's search")
    grouping: str = Field(default="", description="a text that several searches may have in common")

    @property
    def search_id(self) -> int:
        """The search's number, from 1; the same for the same name, on every machine."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return 1 + int.from_bytes(digest[:8], "big") % _MOST_SEARCH_IDS


COVID_19 = SavedSearch(
    name="covid-19",
    # The registry knows synonyms of most of these; whoever it does not know them of has them here.
    query=" OR ".join(
        f'"{words}"'
        for words in (
            *("COVID-19", "COVID19", "SARS-CoV-2", "SARS-CoV2", "2019-nCoV", "nCoV-2019"),
            *("coronavirus disease 2019", "2019 novel coronavirus", "novel coronavirus 2019"),
            "severe acute respiratory syndrome coronavirus 2",
        )
    ),
    grouping="covid-19",
)
"""The search that AACT is known for, and that its view `covid_19_studies` is about."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    search: Annotated[tuple[SavedSearch, ...], Field(strict=False)] = ()


def saved_searches(path: Path | None) -> tuple[SavedSearch, ...]:
    """The searches that a file names, in its order; without a file, the one for COVID-19.

    A file may name none. Raises SearchFileError, which tells everything that is wrong with the file.
    """
    if path is None:
        return (COVID_19,)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot read the searches in {path}: {error.strerror}; correct CTG_SEARCHES_FILE"
        raise SearchFileError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is not TOML: {error}; docs/aact.md shows a file"
        raise SearchFileError(message) from error
    try:
        searches = _File.model_validate(content).search
    except ValidationError as error:
        problems = [_problem(content, item) for item in error.errors()]
    else:
        problems = _alike(searches)
        if not problems:
            return searches
    message = f"unusable searches in {path}:\n  " + "\n  ".join(problems)
    raise SearchFileError(message) from None


def _problem(content: Mapping[str, Any], item: Any) -> str:
    """One line on one complaint: where, what was found, what is expected."""
    where, *rest = item["loc"]
    if where != "search" or not rest:
        return f"{where}: {item['msg']}; the file consists of [[search]] tables"
    number, *path = rest
    listed = content["search"]
    named = listed[number] if isinstance(listed, list) else {}
    name = named.get("name") if isinstance(named, dict) else None
    said = f"search {name!r}" if isinstance(name, str) else f"search number {number + 1}"
    if not path:
        return f"{said}: {item['msg']}"
    field = str(path[0])
    if item["type"] == "extra_forbidden":
        return f"{said}: {field}: no such entry; there are {', '.join(SavedSearch.model_fields)}"
    found = "" if item["type"] == "missing" else f", found {item['input']!r}"
    expected = SavedSearch.model_fields[field].description
    return f"{said}: {field}: {item['msg']}{found}. Expected: {expected}"


def _alike(searches: tuple[SavedSearch, ...]) -> list[str]:
    """What to say of searches that could not be told from each other."""
    first: dict[int, SavedSearch] = {}
    problems = []
    for search in searches:
        other = first.setdefault(search.search_id, search)
        if other is search:
            continue
        if other.name == search.name:
            problems.append(f"search {search.name!r}: the name is given twice; results go by name")
        else:
            problems.append(
                f"search {search.name!r}: its name gives the same number as {other.name!r}, by chance; "
                "change either a little"
            )
    return problems
