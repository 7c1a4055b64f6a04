"""Studies as JSON become typed, nested Arrow rows; those that cannot are singled out.

Arrow's JSON reader with an explicit schema parses 100 MB of studies in 0.5 s; DuckDB takes half as long
again (2.0.1: 0.77 s where Arrow took 0.53), polars more. It reads the studies where they lie, one after
the other, 8 MB in a thread. Ending each by a line break, for the reader to cut blocks there, took a
quarter longer.

It refuses all that it was given for one value of the wrong type. msgspec, which reads 100 MB by the same
field tree in 0.2 s but makes no Arrow of it, then names the suspects; Arrow's word on each of them stands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.model.json_text import IN_ITEMS, Path, leaves, why_refused
from ctg_assets.snapshot.misfits import EXACT_JSON, misfit_of, whole_number
from ctg_assets.snapshot.unmodelled import Extra, extras_of, unknown_in_json, unknown_in_table

# Read at a time by one thread; 2 MB take a tenth longer, 1 MB a third. A mistyped study costs two more readings
# of its batch.
_BATCH_BYTES = 8 << 20

_ROW_NUMBER = re.compile(r"( in row \d+)$|^JSON parse error: ")
_COLUMN = re.compile(r"^Column\((/[^)]*)\) ")


@dataclass(frozen=True)
class Rejection:
    """A study that cannot be typed: its index in the batch, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class ParsedStudies:
    """A batch of studies, typed.

    `studies` has the schema `study_arrow_schema()` and one row per accepted study, in order; `accepted`
    holds their indexes in the batch. `extras` are the values of accepted studies in fields that the
    model does not know (nulls left out), by study and, within one, in the order of `path`.
    """

    studies: pa.Table
    accepted: list[int]
    rejections: list[Rejection] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)

    @property
    def unknown_fields(self) -> Counter[str]:
        """The occurrences of fields that the model does not know, by path."""
        return Counter(extra.path for extra in self.extras)


def parse_studies(
    studies: Iterable[bytes] | pa.ChunkedArray, *, identified: bool = False
) -> ParsedStudies:
    """Type some studies (JSON bytes, or a column of them, which is faster), on all cores.

    `identified` says that each of them is sound: `identity.identify` found an NCT id in it and
    nothing odd about it (`identity.may_be_odd`). They need no check of that then. Never fails on content: what cannot be typed is in `rejections`.
    """
    tables = [study_arrow_schema().empty_table()]
    whole = ParsedStudies(tables[0], [])
    start = 0
    batches = list(_batches(studies))
    with ThreadPoolExecutor(pa.cpu_count()) as threads:
        all_parsed = threads.map(partial(_parse_batch, identified=identified), batches)
        for batch, parsed in zip(batches, all_parsed, strict=True):
            tables.append(parsed.studies)
            whole.accepted.extend(start + index for index in parsed.accepted)
            whole.rejections.extend(replace(r, index=start + r.index) for r in parsed.rejections)
            whole.extras.extend(replace(one, index=start + one.index) for one in parsed.extras)
            start += len(batch)
    return replace(whole, studies=pa.concat_tables(tables))


def _batches(studies: Iterable[bytes] | pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """The studies in columns of about `_BATCH_BYTES` each."""
    if isinstance(studies, pa.ChunkedArray):
        ends = np.cumsum(pc.binary_length(studies).to_numpy())
        start = taken = 0
        while start < len(studies):
            # With the study that reaches the size.
            end = min(int(np.searchsorted(ends, taken + _BATCH_BYTES)) + 1, len(studies))
            yield studies.slice(start, end - start)
            start, taken = end, int(ends[end - 1])
        return
    batch: list[bytes] = []
    size = 0
    for study in studies:
        batch.append(study)
        size += len(study)
        if size >= _BATCH_BYTES:
            yield _column(batch)
            batch, size = [], 0
    if batch:
        yield _column(batch)


def _column(studies: Sequence[bytes]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(studies, pa.large_binary())])


def _parse_batch(studies: pa.ChunkedArray, *, identified: bool) -> ParsedStudies:
    rejections: list[Rejection] = []
    sound = list(range(len(studies)))
    if not identified:
        reasons = map(why_refused, studies.to_pylist())
        rejections = [Rejection(index, reason) for index, reason in enumerate(reasons) if reason]
        unsound = {rejection.index for rejection in rejections}
        sound = [index for index in sound if index not in unsound]
        studies = studies.take(pa.array(sound, pa.int64()))
    inferred = _infer(studies)
    if inferred is None or _has_infinite(inferred):
        # Either a known field has a wrong type, or an unknown one differs from study to study.
        spelled = _with_whole_numbers(studies.to_pylist())
        mistyped = dict(_find_mistyped(spelled))
        rejections += [Rejection(sound[index], reason) for index, reason in mistyped.items()]
        rejections.sort(key=lambda rejection: rejection.index)
        studies = _column([study for index, study in enumerate(spelled) if index not in mistyped])
        sound = [place for index, place in enumerate(sound) if index not in mistyped]
        inferred = _infer(studies)
    if inferred is None:
        typed = _read(studies, "ignore")
        unknown = unknown_in_json(studies)
    else:
        typed, unknown = _known(inferred), unknown_in_table(inferred)
    extras = [replace(extra, index=sound[extra.index]) for extra in extras_of(studies, unknown)]
    return ParsedStudies(typed, sound, rejections, extras)


def _known(inferred: pa.Table) -> pa.Table:
    """What the model knows of a table."""
    schema = study_arrow_schema()
    if inferred.schema.equals(schema):
        return inferred
    # Casting a struct leaves out the fields that the target has not, and copies nothing.
    return inferred.select(schema.names).cast(schema)


def _text(studies: pa.LargeBinaryArray) -> pa.Buffer:
    """All studies of an array, one after the other, as they lie in memory."""
    _, offsets, data = studies.buffers()
    if data is None or not len(studies):
        return pa.py_buffer(b"")
    bounds = np.frombuffer(offsets, np.int64)
    start, end = bounds[studies.offset], bounds[studies.offset + len(studies)]
    return data.slice(start, end - start)


def _infer(studies: pa.ChunkedArray) -> pa.Table | None:
    """The studies with the fields that the model does not know; None if they cannot be typed."""
    try:
        return _read(studies, "infer")
    except pa.ArrowInvalid:
        return None


def _has_infinite(studies: pa.Table) -> bool:
    """Whether a number is larger than a float can hold; Arrow makes infinity of it."""
    for path in _number_paths():
        for column in studies[path[0]].chunks:
            found = column
            for step in path[1:]:
                found = found.flatten() if step is IN_ITEMS else found.field(step)
            if pc.any(pc.is_inf(found)).as_py():
                return True
    return False


@cache
def _number_paths() -> tuple[Path, ...]:
    return tuple(path for path, kind in _leaf_types().items() if kind == pa.float64())


@cache
def _leaf_types() -> Mapping[Path, pa.DataType]:
    """The types of the model's leaf fields by path."""
    return dict(_leaf_types_below(pa.struct(list(study_arrow_schema())), ()))


def _leaf_types_below(kind: pa.DataType, path: Path) -> Iterator[tuple[Path, pa.DataType]]:
    if pa.types.is_list(kind):
        yield from _leaf_types_below(kind.value_type, (*path, IN_ITEMS))
    elif pa.types.is_struct(kind):
        for each in kind:
            yield from _leaf_types_below(each.type, (*path, each.name))
    else:
        yield path, kind


def _with_whole_numbers(lines: list[bytes]) -> list[bytes]:
    """The lines with whole numbers spelled `12.0` or `1e3` as Arrow takes them, which is `12` and `1000`."""
    decode = _typed_decoder().decode
    spelled_anew = []
    for line in lines:
        try:
            decode(line)
        except msgspec.ValidationError:
            spelled_anew.append(_spelled_anew(line))
        else:
            spelled_anew.append(line)
    return spelled_anew


def _spelled_anew(line: bytes) -> bytes:
    types = _leaf_types()
    kept, position = [], 0
    for leaf in leaves(line):
        if leaf.raw[:1] != b'"' and types.get(leaf.path) == pa.int64():
            number = whole_number(EXACT_JSON.decode(leaf.raw))
            if number is not None:
                kept += [line[position : leaf.start], b"%d" % number]
                position = leaf.end
    return b"".join([*kept, line[position:]])


def _find_mistyped(lines: list[bytes]) -> Iterator[tuple[int, str]]:
    """The lines that cannot be typed, and why."""
    decode = _typed_decoder().decode
    trusted: list[int] = []
    for index, line in enumerate(lines):
        try:
            decode(line)
        except msgspec.ValidationError:
            if reason := _why_mistyped([line]):
                yield index, misfit_of(line) or reason
                continue
        trusted.append(index)
    # The two parsers may differ in what they take for a number: log2(n) readings for each such line.
    pending = [trusted]
    while pending:
        part = pending.pop()
        reason = _why_mistyped([lines[index] for index in part])
        if reason and len(part) == 1:
            yield part[0], misfit_of(lines[part[0]]) or reason
        elif reason:
            middle = len(part) // 2
            pending += [part[middle:], part[:middle]]


def _why_mistyped(lines: list[bytes]) -> str | None:
    """Why Arrow refuses these lines; None if it does not."""
    try:
        if _has_infinite(_read(_column(lines), "ignore")):
            return "a number is out of range"
    except pa.ArrowInvalid as error:
        reason = _ROW_NUMBER.sub("", str(error))
        return _COLUMN.sub(lambda match: f"{_dotted(match[1])}: ", reason)
    return None


def _dotted(path: str) -> str:
    """A path as Arrow spells it, in the registry's spelling."""
    return path.replace("/[]", "[]").removeprefix("/").replace("/", ".")


@cache
def _typed_decoder() -> msgspec.json.Decoder[Any]:
    """A decoder that refuses values which do not fit the field tree; unknown fields are ignored."""
    return msgspec.json.Decoder(_python_type(pa.struct(list(study_arrow_schema())), "Study"))


def _python_type(kind: pa.DataType, name: str) -> Any:
    if pa.types.is_struct(kind):
        # Numbered, since a field may bear the name of a Python keyword, such as `class`.
        renamed = {f"f{index}": each.name for index, each in enumerate(kind)}
        members = [
            (attribute, _python_type(each.type, each.name) | None, None)
            for attribute, each in zip(renamed, kind, strict=True)
        ]
        return msgspec.defstruct(name, members, rename=renamed, gc=False)
    if pa.types.is_list(kind):
        return list[_python_type(kind.value_type, name) | None]  # type: ignore[misc]
    return {pa.bool_(): bool, pa.int64(): int, pa.float64(): float, pa.string(): str}[kind]


def _read(studies: pa.ChunkedArray, unexpected_field_behavior: str) -> pa.Table:
    if not len(studies):
        return study_arrow_schema().empty_table()
    # Objects need nothing between them. A batch of one chunk, as most are, is not copied.
    one = studies.chunk(0) if studies.num_chunks == 1 else studies.combine_chunks()
    json = _text(one)
    return pj.read_json(
        pa.BufferReader(json),
        # In one block nothing is cut, wherever line breaks are.
        read_options=pj.ReadOptions(block_size=json.size, use_threads=False),
        parse_options=pj.ParseOptions(
            explicit_schema=study_arrow_schema(),
            unexpected_field_behavior=unexpected_field_behavior,
        ),
    )
