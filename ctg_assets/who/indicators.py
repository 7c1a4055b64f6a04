"""Which of WHO's indicators there are, how each is asked for, and where its rows go: configuration, no code.

The shipped `indicators.toml` has those that we know. A file of the same form, people's own, adds to it
and overrides it key by key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tomlkit

from ctg_assets.settings import Settings
from ctg_assets.who.errors import IndicatorFileError, UnknownIndicatorError

SHIPPED_FILE = Path(__file__).with_name("indicators.toml")

_FOLDER = "who"

# Codes name folders of the lake and partitions of Dagster.
_CODE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
# xMart wants longer queries by POST.
_MOST_FILTER_CHARACTERS = 1500
_MOST_ROWS_OF_A_PAGE = 100_000

_LICENCE = "unsettled: CC BY-NC-SA 3.0 IGO by WHO's pages; cite WHO"


class DialectName(StrEnum):
    """The two of WHO's APIs."""

    GHO = "gho"
    XMART = "xmart"


class TargetTable(StrEnum):
    """The tables of schema `who` that an indicator's rows can go to."""

    OBSERVATIONS = "observations"
    ESTIMATES = "global_health_estimates"


class Schedule(StrEnum):
    """How often an indicator is looked for anew."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"

    @property
    def days(self) -> int:
        """After how many days."""
        return {"daily": 1, "weekly": 7, "monthly": 30, "yearly": 365}[self.value]


class Indicator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An indicator as its files have it.

    `entity` is the entity set to ask for (GHO: by default the code; xMart: `MART/TABLE`), `filter` an OData
    filter. `columns` names the column of an answer for a column of ours, where the dialect's usual one is not
    it; `fill` has values for columns of an answer that are empty in it. `release` names a release:
    `{last_year}`, `{updated}` (the last day on which WHO changed a row) and `{fetched}` are filled in.
    """

    code: Annotated[str, msgspec.Meta(pattern=_CODE)]
    name: Annotated[str, msgspec.Meta(min_length=1)]
    dialect: DialectName
    entity: str = ""
    filter: Annotated[str, msgspec.Meta(max_length=_MOST_FILTER_CHARACTERS)] = ""
    order_by: str = "Sys_PK"
    page_size: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ROWS_OF_A_PAGE)] = 25_000
    enabled: bool = True
    schedule: Schedule = Schedule.WEEKLY
    target: TargetTable = TargetTable.OBSERVATIONS
    release: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "{updated}"
    columns: dict[str, str] = {}
    fill: dict[str, str] = {}
    source: str = "World Health Organization, Global Health Observatory"
    licence: str = _LICENCE

    @property
    def asked_for(self) -> str:
        """The entity set in its API."""
        return self.entity or self.code


def users_file(settings: Settings) -> Path:
    """The file that adds to the shipped one; it need not be there."""
    return settings.who_indicators_file or settings.data_dir / _FOLDER / "indicators.toml"


def indicators(settings: Settings) -> dict[str, Indicator]:
    """All indicators by code, those of the shipped file first.

    Raises IndicatorFileError, naming file and indicator, for what cannot be read or asked for.
    """
    shipped, own_file = _read(SHIPPED_FILE), users_file(settings)
    own = _read(own_file) if own_file.exists() else {}
    codes = [*shipped, *(code for code in own if code not in shipped)]
    return {
        code: _indicator(
            code,
            {**shipped.get(code, {}), **own.get(code, {})},
            own_file if code in own else SHIPPED_FILE,
        )
        for code in codes
    }


def named(settings: Settings, codes: list[str] | None = None) -> list[Indicator]:
    """The indicators of these codes, else all that are enabled; raises UnknownIndicatorError as well."""
    known = indicators(settings)
    if not codes:
        return [each for each in known.values() if each.enabled]
    return [known[code] if code in known else _raise_unknown(code, known) for code in codes]


def add(settings: Settings, indicator: Indicator) -> Path:
    """Write an indicator that was not there into people's own file; returns the file.

    Raises IndicatorFileError when there is one of its code, or it cannot be asked for.
    """
    if indicator.code in indicators(settings):
        message = (
            f"indicator {indicator.code} is there already; change it in {users_file(settings)}"
        )
        raise IndicatorFileError(message)
    said = msgspec.to_builtins(indicator)
    usual = {name: value for name, value in _defaults().items() if said[name] == value}
    _check(indicator, users_file(settings))
    return _write(
        settings,
        indicator.code,
        {name: value for name, value in said.items() if name != "code" and name not in usual},
    )


def switch(settings: Settings, code: str, *, enabled: bool) -> Path:
    """Say in people's own file whether an indicator is refreshed; returns the file.

    Raises UnknownIndicatorError and IndicatorFileError.
    """
    known = indicators(settings)
    if code not in known:
        _raise_unknown(code, known)
    return _write(settings, code, {"enabled": enabled})


def _raise_unknown(code: str, known: Mapping[str, Indicator]) -> Indicator:
    message = f"no indicator {code!r}; there are {', '.join(known)}. `ctg-assets who add {code}` makes one"
    raise UnknownIndicatorError(message)


def _defaults() -> dict[str, Any]:
    smallest = Indicator(code="X", name="x", dialect=DialectName.GHO)
    return {
        name: value
        for name, value in msgspec.to_builtins(smallest).items()
        if name not in {"code", "name", "dialect"}
    }


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        with file.open("rb") as stream:
            found = tomllib.load(stream)
    except OSError as error:
        message = f"cannot read the indicators of {file}: {error.strerror}"
        raise IndicatorFileError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{file} is no TOML: {error}. An indicator begins with a line [indicators.CODE]"
        raise IndicatorFileError(message) from error
    tables = found.pop("indicators", {})
    if found or not isinstance(tables, dict):
        odd = ", ".join(found) or "indicators"
        message = f"{file} has {odd} at its top; expected only tables [indicators.CODE]"
        raise IndicatorFileError(message)
    for code, table in tables.items():
        if not isinstance(table, dict) or "code" in table:
            message = f"indicator {code} of {file} is to be a table [indicators.{code}] without a key `code`"
            raise IndicatorFileError(message)
    return tables


def _indicator(code: str, said: Mapping[str, Any], file: Path) -> Indicator:
    try:
        indicator = msgspec.convert({**said, "code": code}, Indicator)
    except msgspec.ValidationError as error:
        message = f"indicator {code} of {file} cannot be used: {error}"
        raise IndicatorFileError(message) from error
    _check(indicator, file)
    return indicator


def _check(indicator: Indicator, file: Path) -> None:
    problem = None
    if indicator.dialect is DialectName.XMART and "/" not in indicator.entity:
        problem = "entity is to be MART/TABLE, such as DEX_CMS/GHE_FULL"
    try:
        indicator.release.format(last_year=2021, updated="2021-01-01", fetched="2021-01-01")
    except (KeyError, IndexError, ValueError):
        problem = f"release {indicator.release!r} may have {{last_year}}, {{updated}} and {{fetched}} only"
    if problem:
        message = f"indicator {indicator.code} of {file} cannot be used: {problem}"
        raise IndicatorFileError(message)


def _write(settings: Settings, code: str, said: Mapping[str, Any]) -> Path:
    """Set keys of an indicator; what else people have written there stays, comments as well."""
    file = users_file(settings)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        document = tomlkit.parse(file.read_text(encoding="utf-8") if file.exists() else "")
        tables = document.setdefault("indicators", tomlkit.table(is_super_table=True))
        table = tables.setdefault(code, tomlkit.table())
        for name, value in said.items():
            table[name] = value
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(tomlkit.dumps(document), encoding="utf-8")
        unfinished.replace(file)
    except OSError as error:
        message = f"cannot write the indicators of {file}: {error.strerror}"
        raise IndicatorFileError(message) from error
    return file
