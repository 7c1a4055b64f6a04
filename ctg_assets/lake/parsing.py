"""Studies as JSON become typed, nested Arrow rows; those that cannot are singled out.

Belongs here: parsing, quarantine and the finding of fields the model does not know (drift). Does not
belong here: files, and flattening into tables (`model/flatten.py`).

Arrow's JSON reader with an explicit schema and 8 MB blocks parses 100 MB of studies in 0.5 s on two
cores (polars and DuckDB take several times as long). It refuses a whole block for one value of the
wrong type. msgspec, which reads 100 MB by the same field tree in 0.2 s but makes no Arrow of it, then
names the suspects; Arrow's word on each of them stands.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj

from ctg_assets.model.fields import study_arrow_schema

_BLOCK_BYTES = 8 << 20

# Parsed at a time: two blocks, one for each core. A mistyped study costs two more readings of its batch.
_BATCH_BYTES = 16 << 20

_ROW_NUMBER = re.compile(r"( in row \d+)$|^JSON parse error: ")

# Checks the syntax of a whole document without building anything of it.
_SYNTAX = msgspec.json.Decoder(msgspec.Raw)

# One level of a document, with the text of what lies below.
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw] | None)

_IN_ITEMS = None
"""The step of a key path from a list into its items."""

_KeyPath = tuple[str | None, ...]
"""Where an unknown field lies: keys, and `_IN_ITEMS` after the key of a list."""


@dataclass(frozen=True)
class Rejection:
    """A study that cannot be typed: its index in the batch, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Extra:
    """A value that a study has outside the data model.

    `index` is the study's in the batch; `path` the field's in the registry's spelling (`[]` after
    lists); `positions` those of the items it lies in, from 1, outermost first; `json` the value's JSON
    as sent.
    """

    index: int
    path: str
    positions: tuple[int, ...]
    json: bytes


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


def parse_studies(studies: Iterable[bytes], *, identified: bool = False) -> ParsedStudies:
    """Type some studies (JSON bytes), taken from `studies` a few at a time.

    `identified` says that `identity.identify` found an NCT id in each of them: they are JSON objects
    then, and need no check of that. Never fails on content: what cannot be typed is in `rejections`.
    """
    tables = [study_arrow_schema().empty_table()]
    whole = ParsedStudies(tables[0], [])
    start = 0
    for batch in _batches(studies):
        parsed = _parse_batch(batch, identified=identified)
        tables.append(parsed.studies)
        whole.accepted.extend(start + index for index in parsed.accepted)
        whole.rejections.extend(replace(r, index=start + r.index) for r in parsed.rejections)
        whole.extras.extend(replace(extra, index=start + extra.index) for extra in parsed.extras)
        start += len(batch)
    return replace(whole, studies=pa.concat_tables(tables))


def _batches(studies: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The studies in lists of about `_BATCH_BYTES` each."""
    batch: list[bytes] = []
    size = 0
    for study in studies:
        batch.append(study)
        size += len(study)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parse_batch(studies: list[bytes], *, identified: bool) -> ParsedStudies:
    rejections: list[Rejection] = []
    sound = list(range(len(studies)))
    if not identified:
        reasons = map(syntax_error, studies)
        rejections = [Rejection(index, reason) for index, reason in enumerate(reasons) if reason]
        unsound = {rejection.index for rejection in rejections}
        sound = [index for index in sound if index not in unsound]
    # Raw newlines can only be white space between tokens (inside strings JSON wants them escaped),
    # and the reader takes one line for one row.
    lines = [studies[index].replace(b"\n", b" ").replace(b"\r", b" ") for index in sound]
    inferred = _infer(lines)
    if inferred is None:
        # Either a known field has a wrong type, or an unknown one differs from study to study.
        mistyped = dict(_find_mistyped(lines))
        rejections += [Rejection(sound[index], reason) for index, reason in mistyped.items()]
        rejections.sort(key=lambda rejection: rejection.index)
        lines = [line for index, line in enumerate(lines) if index not in mistyped]
        sound = [place for index, place in enumerate(sound) if index not in mistyped]
        inferred = _infer(lines)
    schema = study_arrow_schema()
    if inferred is None:
        typed = _read(lines, "ignore")
        unknown = {path for line in lines for path in _unknown_in_json(msgspec.json.decode(line))}
    else:
        # Casting a struct leaves out the fields that the target has not, and copies nothing.
        typed = inferred.select(schema.names).cast(schema)
        unknown = set(
            _unknown_in_type(pa.struct(list(inferred.schema)), pa.struct(list(schema)), ())
        )
    extras = [replace(extra, index=sound[extra.index]) for extra in _extras(lines, unknown)]
    return ParsedStudies(typed, sound, rejections, extras)


def syntax_error(study: bytes) -> str | None:
    """Why these bytes are not one JSON object; None if they are.

    Arrow's reader takes two objects on a line for two rows and an empty line for none, does not look
    at the encoding of strings, and overflows the stack on deep nesting.
    """
    try:
        _SYNTAX.decode(study)
        str(study, "utf-8")
    except RecursionError:
        return "JSON is nested too deeply"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return str(error)
    return None if study.lstrip()[:1] == b"{" else "JSON is not an object"


def _infer(lines: list[bytes]) -> pa.Table | None:
    """The lines with the fields that the model does not know; None if they cannot be typed."""
    try:
        return _read(lines, "infer")
    except pa.ArrowInvalid:
        return None


def _find_mistyped(lines: list[bytes]) -> Iterator[tuple[int, str]]:
    """The lines that cannot be typed, and why."""
    decode = _typed_decoder().decode
    trusted: list[int] = []
    for index, line in enumerate(lines):
        try:
            decode(line)
        except msgspec.ValidationError:
            if reason := _why_mistyped([line]):
                yield index, reason
                continue
        trusted.append(index)
    # The two parsers may differ in what they take for a number: log2(n) readings for each such line.
    pending = [trusted]
    while pending:
        part = pending.pop()
        reason = _why_mistyped([lines[index] for index in part])
        if reason and len(part) == 1:
            yield part[0], reason
        elif reason:
            middle = len(part) // 2
            pending += [part[middle:], part[:middle]]


def _why_mistyped(lines: list[bytes]) -> str | None:
    """Why Arrow refuses these lines; None if it does not."""
    try:
        _read(lines, "ignore")
    except pa.ArrowInvalid as error:
        return _ROW_NUMBER.sub("", str(error))
    return None


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


def _read(lines: Sequence[bytes], unexpected_field_behavior: str) -> pa.Table:
    if not lines:
        return study_arrow_schema().empty_table()
    longest = max(len(line) for line in lines)
    return pj.read_json(
        io.BytesIO(b"\n".join(lines)),
        # A row must fit into a block.
        read_options=pj.ReadOptions(block_size=max(_BLOCK_BYTES, 2 * longest)),
        parse_options=pj.ParseOptions(
            explicit_schema=study_arrow_schema(),
            unexpected_field_behavior=unexpected_field_behavior,
        ),
    )


def _unknown_in_type(found: pa.DataType, known: pa.DataType, path: _KeyPath) -> Iterator[_KeyPath]:
    """The paths of fields that a type has and the known one has not."""
    if pa.types.is_list(found):
        yield from _unknown_in_type(found.value_type, known.value_type, (*path, _IN_ITEMS))
    elif pa.types.is_struct(found):
        for each in found:
            position = known.get_field_index(each.name)
            if position < 0:
                yield (*path, each.name)
            else:
                yield from _unknown_in_type(
                    each.type, known.field(position).type, (*path, each.name)
                )


def _unknown_in_json(study: dict[str, Any]) -> Iterator[_KeyPath]:
    """The paths of fields that a study has and the model has not."""
    pending: list[tuple[Any, pa.DataType | pa.Schema, _KeyPath]] = [
        (study, study_arrow_schema(), ())
    ]
    while pending:
        value, known, path = pending.pop()
        if isinstance(value, list):
            pending += [(item, known.value_type, (*path, _IN_ITEMS)) for item in value]
        elif isinstance(value, dict):
            for key, below in value.items():
                position = known.get_field_index(key)
                if position < 0:
                    yield (*path, key)
                else:
                    pending.append((below, known.field(position).type, (*path, key)))


def _extras(lines: Sequence[bytes], unknown: Collection[_KeyPath]) -> Iterator[Extra]:
    """What the lines have at unknown paths, byte for byte."""
    spelled = sorted((_spelled(path), path) for path in unknown)
    if not spelled:
        return
    # Looking for the key spares nearly all lines the decoding; a key may also be spelled with escapes.
    sought = [(name, path, msgspec.json.encode(path[-1])) for name, path in spelled]
    for index, line in enumerate(lines):
        may_be_escaped = b"\\u" in line or b"\\/" in line
        for name, path, key in sought:
            if may_be_escaped or key in line:
                for positions, raw in _values_at(line, path, ()):
                    if raw != b"null":
                        yield Extra(index, name, positions, raw)


def _spelled(path: _KeyPath) -> str:
    steps = ("[]" if step is _IN_ITEMS else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _values_at(
    value: bytes | msgspec.Raw, path: _KeyPath, positions: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], bytes]]:
    if not path:
        yield positions, bytes(value).strip()
    elif path[0] is _IN_ITEMS:
        for position, item in enumerate(_ITEMS.decode(value) or (), start=1):
            yield from _values_at(item, path[1:], (*positions, position))
    else:
        below = (_MEMBERS.decode(value) or {}).get(path[0])
        if below is not None:
            yield from _values_at(below, path[1:], positions)
