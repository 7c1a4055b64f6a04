"""A round while it is done: which studies its acts touch, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from ctg_assets.simulator.churn_acts import TAKEN_BACK, Act, ChurnError, ChurnRates
from ctg_assets.simulator.churn_log import ActKind, ActRecord, content_hash
from ctg_assets.simulator.draws import Draw, Weighted
from ctg_assets.simulator.edits.catalog import (
    ALWAYS_POSSIBLE,
    EditError,
    edit_at_random,
    edit_by_name,
)
from ctg_assets.simulator.edits.desk import Desk
from ctg_assets.simulator.edits.posting import add_aliases, make_new, post_update
from ctg_assets.simulator.generate import study_json
from ctg_assets.simulator.overlay import ChangedStudy, changed_study
from ctg_assets.simulator.source import GeneratedSource, StudySource, study_facts

_ALIAS_ADDED = "alias_added"

# Of the drawn acts: restores that come back changed, silent edits that take the former one back, merges that
# leave the survivor's posting date alone.
_CHANGED_RESTORES = 0.5
_TAKEN_BACK = 0.2
_SILENT_MERGES = 0.125


@dataclass
class RegistryState:
    """What has become of the studies so far, besides those that are as they were."""

    changed: dict[str, ChangedStudy] = field(default_factory=dict)
    deleted: dict[str, bytes] = field(default_factory=dict)
    merged: set[str] = field(default_factory=set)
    # What a study said before its latest silent edit.
    undo: dict[str, bytes] = field(default_factory=dict)
    next_newcomer: int = 0

    def copy(self) -> RegistryState:
        """The same, to be changed without changing this one."""
        return RegistryState(
            dict(self.changed),
            dict(self.deleted),
            set(self.merged),
            dict(self.undo),
            self.next_newcomer,
        )


class RoundWork:
    """A round while it is done. It works on a copy of the state, so that a round that fails leaves nothing behind.

    No study is touched twice, so that each act can be seen in the data.
    """

    def __init__(
        self,
        state: RegistryState,
        *,
        source: StudySource,
        newcomers: Newcomers,
        number: int,
        timestamp: datetime,
        draw: Draw,
    ) -> None:
        self.state = state
        self.round = number
        self.timestamp = timestamp
        self.records: list[ActRecord] = []
        self._newcomers = newcomers
        self._source = source
        self._draw = draw
        self._day = timestamp.date().toordinal()
        self._desk = Desk(draw, self._day)
        self._touched: set[str] = set()

    def draw_acts(self, rates: ChurnRates) -> None:
        """Do as much as the rates say; an act for which no study is left is not done."""
        draw = self._draw
        if draw.random() < rates.empty:
            return
        kinds = Weighted(rates.shares)
        expected = rates.touched * len(self._source)
        for _ in range(max(1, int(expected * (0.5 + draw.random()) + draw.random()))):
            act = self._drawn(draw.weighted(kinds))
            if act is not None:
                self.do(act)

    def _drawn(self, kind: ActKind) -> Act | None:
        draw = self._draw
        if kind is ActKind.INSERT:
            return Act(kind)
        if kind is ActKind.RESTORE:
            nct_id = self._untouched(self.state.deleted)
            changed = draw.random() < _CHANGED_RESTORES
            done = ("summary_reworded",) if changed else ()
            return None if nct_id is None else Act(kind, nct_id, edits=done)
        if kind is ActKind.SILENT_EDIT and draw.random() < _TAKEN_BACK:
            nct_id = self._untouched(self.state.undo)
            if nct_id is not None:
                return Act(kind, nct_id, edits=(TAKEN_BACK,))
        # A merge takes two studies, and a registry is never emptied.
        if len(self._source) - len(self._touched) < 4:
            return None
        return Act(kind, silent=draw.random() < _SILENT_MERGES)

    def _untouched(self, nct_ids: Iterable[str]) -> str | None:
        left = [nct_id for nct_id in nct_ids if nct_id not in self._touched]
        return self._draw.pick(left) if left else None

    def do(self, act: Act) -> None:
        """Do one act; raises ChurnError."""
        if act.study is not None:
            act = self._named(act, _id_of(act.study))
        match act.kind:
            case ActKind.INSERT:
                self._insert(act)
            case ActKind.UPDATE | ActKind.SILENT_EDIT:
                self._edit(act)
            case ActKind.DELETE:
                nct_id, study = self._live(act.nct_id)
                self._take_away(nct_id)
                self.state.deleted[nct_id] = study
                self._note(act.kind, nct_id, study, None)
            case ActKind.RESTORE:
                self._restore(act)
            case ActKind.MERGE:
                self._merge(act)

    def _named(self, act: Act, nct_id: str) -> Act:
        """The act with the NCT id of the content given for it."""
        if act.nct_id not in {None, nct_id}:
            message = f"{act.nct_id} cannot get the content of {nct_id}"
            raise ChurnError(message)
        return replace(act, nct_id=nct_id)

    def _insert(self, act: Act) -> None:
        study = act.study
        if study is None:
            study = self._newcomer()
        nct_id = _id_of(study)
        if self._is_known(nct_id):
            message = f"{nct_id} cannot be inserted: there is, or was, such a study"
            raise ChurnError(message)
        self._touch(nct_id)
        self._put(nct_id, study)
        self._note(act.kind, nct_id, None, study)

    def _newcomer(self) -> bytes:
        while True:
            study = self._newcomers.study(self.state.next_newcomer)
            self.state.next_newcomer += 1
            if not self._is_known(_id_of(study)):
                break
        content = msgspec.json.decode(study)
        make_new(content, self._day)
        return msgspec.json.encode(content)

    def _is_known(self, nct_id: str) -> bool:
        return (
            self._source.index_of(nct_id) is not None
            or nct_id in self.state.deleted
            or nct_id in self.state.merged
            or self._source.alias_target(nct_id) is not None
            or nct_id in self._touched
        )

    def _edit(self, act: Act) -> None:
        nct_id, before = self._live(act.nct_id)
        kind, names = act.kind, act.edits
        undo = self.state.undo.get(nct_id)
        if act.study is not None:
            study = act.study
        elif names == (TAKEN_BACK,):
            if undo is None or kind is not ActKind.SILENT_EDIT:
                message = f"{nct_id} has no silent edit to take back"
                raise ChurnError(message)
            study = undo
        else:
            content = msgspec.json.decode(before)
            names = self._edited(nct_id, content, names, by_registry=kind is ActKind.SILENT_EDIT)
            # A study with no place for the date cannot tell of its update.
            if kind is ActKind.UPDATE and not post_update(content, self._day):
                kind = ActKind.SILENT_EDIT
            study = msgspec.json.encode(content)
            if content_hash(study) == content_hash(before):
                # Drawn edits may undo each other.
                names += self._edited(nct_id, content, (ALWAYS_POSSIBLE,), by_registry=False)
                study = msgspec.json.encode(content)
        self._put(nct_id, study)
        if kind is ActKind.SILENT_EDIT and names != (TAKEN_BACK,):
            self.state.undo[nct_id] = before
        self._note(kind, nct_id, before, study, edits=names)

    def _edited(
        self, nct_id: str, content: Any, names: tuple[str, ...], *, by_registry: bool
    ) -> tuple[str, ...]:
        try:
            if names:
                edit_by_name(content, self._desk, names)
                return names
            return edit_at_random(content, self._desk, by_registry=by_registry)
        except EditError as error:
            message = f"{nct_id}: {error}"
            raise ChurnError(message) from error

    def _restore(self, act: Act) -> None:
        nct_id = self._untouched(self.state.deleted) if act.nct_id is None else act.nct_id
        if nct_id is None:
            message = f"no deleted study is left to restore in round {self.round}"
            raise ChurnError(message)
        if nct_id not in self.state.deleted:
            message = f"{nct_id} cannot be restored: it was not deleted"
            raise ChurnError(message)
        self._touch(nct_id)
        study = self.state.deleted.pop(nct_id)
        if act.study is not None:
            study = act.study
        elif act.edits:
            content = msgspec.json.decode(study)
            self._edited(nct_id, content, act.edits, by_registry=False)
            post_update(content, self._day)
            study = msgspec.json.encode(content)
        self._put(nct_id, study)
        self._note(act.kind, nct_id, None, study, edits=act.edits)

    def _merge(self, act: Act) -> None:
        # A study that is named comes first, so that the one drawn is another.
        if act.into is None:
            nct_id, gone = self._live(act.nct_id)
            survivor, before = self._live(None)
        else:
            survivor, before = self._live(act.into)
            nct_id, gone = self._live(act.nct_id)
        content = msgspec.json.decode(before)
        add_aliases(content, (nct_id, *study_facts(gone).aliases))
        kind = ActKind.SILENT_EDIT
        if not act.silent and post_update(content, self._day):
            kind = ActKind.UPDATE
        after = msgspec.json.encode(content)
        self._take_away(nct_id)
        self.state.merged.add(nct_id)
        self._put(survivor, after)
        self._note(act.kind, nct_id, gone, None, into=survivor)
        self._note(kind, survivor, before, after, edits=(_ALIAS_ADDED,))

    def _live(self, wanted: str | None) -> tuple[str, bytes]:
        """A study that is there and was not touched in this round, with its JSON; touches it."""
        if wanted is None:
            wanted = self._any_untouched()
        index = self._source.index_of(wanted)
        if index is None:
            message = f"there is no study {wanted}"
            raise ChurnError(message)
        self._touch(wanted)
        return wanted, self._source.raw(index)

    def _any_untouched(self) -> str:
        studies = len(self._source)
        start = self._draw.below(studies)
        for step in range(studies):
            nct_id = self._source.nct_id((start + step) % studies)
            if nct_id not in self._touched:
                return nct_id
        message = f"none of {studies} studies is left to draw from in round {self.round}"
        raise ChurnError(message)

    def _touch(self, nct_id: str) -> None:
        if nct_id in self._touched:
            message = f"{nct_id} cannot be touched twice in round {self.round}"
            raise ChurnError(message)
        self._touched.add(nct_id)

    def _put(self, nct_id: str, study: bytes) -> None:
        self.state.undo.pop(nct_id, None)
        self.state.changed[nct_id] = changed_study(study)

    def _take_away(self, nct_id: str) -> None:
        self.state.undo.pop(nct_id, None)
        self.state.changed.pop(nct_id, None)

    def _note(
        self,
        kind: ActKind,
        nct_id: str,
        before: bytes | None,
        after: bytes | None,
        *,
        into: str | None = None,
        edits: tuple[str, ...] = (),
    ) -> None:
        self.records.append(
            ActRecord(
                round=self.round,
                data_timestamp=self.timestamp.isoformat(timespec="seconds"),
                act=kind,
                nct_id=nct_id,
                into=into,
                content_hash_before=None if before is None else content_hash(before),
                content_hash_after=None if after is None else content_hash(after),
                edits=edits,
            )
        )


class Newcomers:
    """Generated studies that a source does not have, in a fixed order."""

    def __init__(self, base: StudySource, seed: int) -> None:
        # Generated studies are continued, so that no newcomer has the number of one of them.
        self._seed, self._first = (
            (base.seed, len(base)) if isinstance(base, GeneratedSource) else (seed, 0)
        )

    def study(self, number: int) -> bytes:
        """The JSON of one of them, from 0."""
        return study_json(self._seed, self._first + number)


def _id_of(study: bytes) -> str:
    nct_id = study_facts(study).nct_id
    if not isinstance(nct_id, str):
        message = f"a study without NCT id: {study[:80]!r}"
        raise ChurnError(message)
    return nct_id
