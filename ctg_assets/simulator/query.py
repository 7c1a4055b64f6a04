"""Which studies a `/studies` request selects, and in which order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import msgspec

from ctg_assets.model.fields import FieldNode, enum_values
from ctg_assets.simulator.errors import ApiError
from ctg_assets.simulator.essie import EssieError, parse
from ctg_assets.simulator.expressions import And, Equals, Everything, Expression, Or, conjuncts
from ctg_assets.simulator.naming import BASIC_SEARCH, resolve, values
from ctg_assets.simulator.paging import DefaultOrder
from ctg_assets.simulator.scales import SORTABLE_TYPES, is_date, measure_of
from ctg_assets.simulator.source import StudySource

LAST_UPDATE = "protocolSection.statusModule.lastUpdatePostDateStruct.date"

# Parameter: the search area of its words, and what the registry's messages call it.
_QUERIES = {
    "query.cond": ("ConditionSearch", "Conditions or disease"),
    "query.term": (BASIC_SEARCH, "Other terms"),
    "query.locn": ("LocationSearch", "Location terms"),
    "query.titles": ("TitleSearch", "Title / acronym"),
    "query.intr": ("InterventionSearch", "Intervention / treatment"),
    "query.outc": ("OutcomeSearch", "Outcome measure"),
    "query.spons": ("SponsorSearch", "Sponsor / collaborator"),
    "query.lead": ("LeadSponsorName", "Lead sponsor"),
    "query.id": ("IdSearch", "Study IDs"),
}
_FILTERS = ("filter", "postFilter")
SELECTING_PARAMETERS = frozenset(
    {"sort", *_QUERIES}
    | {f"{prefix}.{name}" for prefix in _FILTERS for name in ("ids", "overallStatus", "advanced")}
)
"""The parameters that decide which studies are selected and in which order."""

_NCT_ID = re.compile(r"NCT0*([1-9]\d{0,7})", re.ASCII | re.IGNORECASE)
_SORT_ITEM = re.compile(r"([a-zA-Z][a-zA-Z0-9\-. ]*|@relevance)(?::(asc|desc))?", re.ASCII)
_KEPT_SELECTIONS = 32


def canonical_nct_id(text: str) -> str | None:
    """An NCT id in the registry's spelling (`nct123` -> `NCT00000123`); None if it is none."""
    match = _NCT_ID.fullmatch(text)
    return f"NCT{int(match[1]):08d}" if match else None


@dataclass(frozen=True)
class SortKey:
    """One item of `sort`: a date or numeric field and a direction."""

    node: FieldNode
    descending: bool


@dataclass(frozen=True)
class Selection:
    """What a request selects: studies matching the expression, of these ids if given, in this order."""

    expression: Expression
    nct_ids: frozenset[str] | None
    sort: tuple[SortKey, ...]


def selection(parameters: Mapping[str, str]) -> Selection:
    """What the request's parameters select.

    Query values that are only NCT ids select those studies and switch the filters off, as documented.
    Raises ApiError 400 for values that cannot be understood.
    """
    parts: list[Expression] = []
    wanted: list[frozenset[str]] = []
    for name, (area, label) in _QUERIES.items():
        text = parameters.get(name, "").strip()
        ids = [canonical_nct_id(word) for word in re.split(r"[\s,]+", text) if word]
        if ids and all(ids):
            wanted.append(frozenset(nct_id for nct_id in ids if nct_id))
        elif text:
            parts.append(_parse(text, area, label))
    ids_only = bool(wanted)
    for prefix in _FILTERS:
        filter_ids = _filter_ids(parameters, f"{prefix}.ids")
        filters = _filters(parameters, prefix)
        if not ids_only:
            wanted += filter_ids
            parts += filters
    return Selection(
        And(tuple(parts)) if parts else Everything(),
        frozenset.intersection(*wanted) if wanted else None,
        _sort_keys(parameters.get("sort", "")),
    )


def _parse(text: str, area: str, label: str) -> Expression:
    try:
        return parse(text, area)
    except EssieError as error:
        raise ApiError(400, f"Error parsing query in {label}: {error}") from error


def _listed(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,|]", text)] if text else []


def _filter_ids(parameters: Mapping[str, str], name: str) -> list[frozenset[str]]:
    ids: set[str] = set()
    for number, item in enumerate(_listed(parameters.get(name, "")), start=1):
        nct_id = canonical_nct_id(item)
        if nct_id is None:
            raise ApiError(400, f"Item {number} in parameter `{name}` has incorrect format")
        ids.add(nct_id)
    return [frozenset(ids)] if ids else []


def _filters(parameters: Mapping[str, str], prefix: str) -> list[Expression]:
    filters: list[Expression] = []
    if advanced := parameters.get(f"{prefix}.advanced", "").strip():
        filters.append(_parse(advanced, BASIC_SEARCH, "advanced filter"))
    if statuses := _listed(parameters.get(f"{prefix}.overallStatus", "")):
        (node,) = resolve("OverallStatus")
        allowed = {item.value for item in enum_values()[node.base_type]}
        for status in statuses:
            if status not in allowed:
                raise ApiError(400, f"Invalid value in parameter `overallStatus`: `{status}`")
        filters.append(Or(tuple(Equals(node, status) for status in statuses)))
    return filters


def _sort_keys(text: str) -> tuple[SortKey, ...]:
    items = _listed(text)
    if len(items) > 2:
        raise ApiError(400, "Parameter `sort` has more than 2 items")
    keys: list[SortKey] = []
    for number, item in enumerate(items, start=1):
        match = _SORT_ITEM.fullmatch(item)
        if not match:
            raise ApiError(400, f"Item {number} in parameter `sort` has incorrect format")
        name, direction = match.groups()
        # Nothing ranks matches here: all are equally relevant, and the default order breaks the tie.
        if name == "@relevance":
            continue
        nodes = resolve(name)
        if len(nodes) != 1:
            raise ApiError(400, f"Unknown piece name of field path: {name}")
        if nodes[0].base_type not in SORTABLE_TYPES:
            raise ApiError(400, f"Unsupported sort field type: {nodes[0].type}")
        default = "desc" if is_date(nodes[0]) else "asc"
        keys.append(SortKey(nodes[0], (direction or default) == "desc"))
    return tuple(keys)


class _Once:
    """A selection that is made when it is first asked for, by whoever asks first; others wait for that one alone."""

    def __init__(self, make: Callable[[], Sequence[int]]) -> None:
        self._make = make
        self._lock = Lock()
        self._studies: Sequence[int] | None = None

    def studies(self) -> Sequence[int]:
        with self._lock:
            if self._studies is None:
                self._studies = self._make()
            return self._studies


class StudyIndex:
    """Answers selections over one unchanging source, remembering the latest ones.

    Expressions over LastUpdatePostDate alone are answered from the source's dates, once per distinct
    date, without generating studies; other expressions and sort fields cost a scan of whatever is left.
    Safe to use from several threads.
    """

    def __init__(self, source: StudySource) -> None:
        self.source = source
        self._order = DefaultOrder(len(source))
        self._selected: dict[tuple[tuple[str, str], ...], _Once] = {}
        self._lock = Lock()

    def select(self, parameters: Mapping[str, str]) -> Sequence[int]:
        """The indexes of the studies that a request's parameters select, in their order.

        Raises ApiError 400 for parameters that cannot be understood.
        """
        wanted = selection(parameters)
        relevant = ((name, parameters[name]) for name in SELECTING_PARAMETERS & parameters.keys())
        key = tuple(sorted(relevant))
        with self._lock:
            if key not in self._selected:
                while len(self._selected) >= _KEPT_SELECTIONS:
                    del self._selected[next(iter(self._selected))]
                self._selected[key] = _Once(lambda: self._select(wanted))
            selected = self._selected[key]
        return selected.studies()

    def _select(self, wanted: Selection) -> Sequence[int]:
        found: Sequence[int] = (
            self._order if wanted.nct_ids is None else self._known(wanted.nct_ids)
        )
        parts = conjuncts(wanted.expression)
        by_date = [part for part in parts if part.paths() == {LAST_UPDATE}]
        others = [part for part in parts if part not in by_date and part != Everything()]
        if by_date:
            found = self._posted(found, And(tuple(by_date)))
        if others:
            rest = And(tuple(others))
            found = [index for index in found if rest.matches(self._study(index))]
        return sorted(found, key=self._sort_key(wanted.sort)) if wanted.sort else found

    def _known(self, nct_ids: Iterable[str]) -> list[int]:
        targets = (self.source.alias_target(nct_id) or nct_id for nct_id in nct_ids)
        indexes = {self.source.index_of(target) for target in targets}
        return sorted((at for at in indexes if at is not None), key=self._order.place_of)

    @cached_property
    def _dates(self) -> list[str]:
        return [self.source.last_update_post_date(index) for index in range(len(self.source))]

    def _posted(self, candidates: Iterable[int], expression: Expression) -> list[int]:
        dates = self._dates
        check_results = {day: expression.matches(_posted_on(day)) for day in set(dates)}
        return [index for index in candidates if check_results[dates[index]]]

    def _study(self, index: int) -> Any:
        return msgspec.json.decode(self.source.raw(index))

    def _sort_key(self, keys: tuple[SortKey, ...]) -> Callable[[int], tuple[float, ...]]:
        only_dates = all(key.node.path == LAST_UPDATE for key in keys)

        def sort_key(index: int) -> tuple[float, ...]:
            study = _posted_on(self._dates[index]) if only_dates else self._study(index)
            return tuple(part for key in keys for part in _rank(study, key))

        return sort_key


def _posted_on(day: str) -> object:
    """A study of which nothing but the last update post date is known."""
    posted = {"lastUpdatePostDateStruct": {"date": day}} if day else {}
    return {"protocolSection": {"statusModule": posted}}


def _rank(study: object, key: SortKey) -> tuple[float, float]:
    measure = measure_of(key.node)
    found = [at for at in map(measure, values(study, key.node.path)) if at is not None]
    if not found:
        return (1, 0)
    return (0, -max(found)) if key.descending else (0, min(found))
