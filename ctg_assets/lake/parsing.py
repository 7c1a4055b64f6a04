"""Studies as JSON become typed, nested Arrow rows; those that cannot are singled out.

Belongs here: parsing, quarantine and the detection of fields the model does not know (drift). Does
not belong here: files, and flattening into tables (`model/flatten.py`).

Arrow's JSON reader with an explicit schema and 8 MB blocks parses 100 MB of studies in 0.4 s on two
cores (polars and DuckDB take several times as long). It refuses a whole block for one value of the
wrong type, so a refused batch is halved until the studies at fault stand alone.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ctg_assets.model.fields import study_arrow_schema

_BLOCK_BYTES = 8 << 20

# Parsed at a time: two blocks, one for each core. A mistyped study costs a few readings of its batch.
_BATCH_BYTES = 16 << 20

_ROW_NUMBER = re.compile(r"( in row \d+)$|^JSON parse error: ")

# Checks the syntax of a whole document without building anything of it.
_SYNTAX = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True)
class Rejection:
    """A study that cannot be typed: its index in the batch, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class ParsedStudies:
    """A batch of studies, typed.

    `studies` has the schema `study_arrow_schema()` and one row per accepted study, in order; `accepted`
    holds their indexes in the batch. `unknown_fields` counts the occurrences of fields the model does
    not know, by path.
    """

    studies: pa.Table
    accepted: list[int]
    rejections: list[Rejection] = field(default_factory=list)
    unknown_fields: Counter[str] = field(default_factory=Counter)


def parse_studies(studies: Iterable[bytes]) -> ParsedStudies:
    """Type some studies (JSON bytes), taken from `studies` a few at a time.

    Never fails on content: what cannot be typed is in `rejections`.
    """
    tables = [study_arrow_schema().empty_table()]
    whole = ParsedStudies(tables[0], [])
    start = 0
    for batch in _batches(studies):
        parsed = _parse_batch(batch)
        tables.append(parsed.studies)
        whole.accepted.extend(start + index for index in parsed.accepted)
        whole.rejections.extend(Rejection(start + r.index, r.reason) for r in parsed.rejections)
        whole.unknown_fields.update(parsed.unknown_fields)
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


def _parse_batch(studies: list[bytes]) -> ParsedStudies:
    syntax = {
        index: reason for index, study in enumerate(studies) if (reason := syntax_error(study))
    }
    sound = [index for index in range(len(studies)) if index not in syntax]
    rejections = [Rejection(index, reason) for index, reason in syntax.items()]
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
    if inferred is None:
        unknown = Counter[str]()
        for line in lines:
            unknown.update(_unknown_in_json(msgspec.json.decode(line)))
        return ParsedStudies(_read(lines, "ignore"), sound, rejections, unknown)
    schema = study_arrow_schema()
    # Casting a struct leaves out the fields that the target has not, and copies nothing.
    typed = inferred.select(schema.names).cast(schema)
    return ParsedStudies(typed, sound, rejections, _unknown_in_table(inferred))


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
    """The lines that cannot be typed, and why, by halving; log2(n) readings for each of them."""
    pending = [(0, len(lines))]
    while pending:
        start, end = pending.pop()
        try:
            _read(lines[start:end], "ignore")
        except pa.ArrowInvalid as error:
            if end - start == 1:
                yield start, _ROW_NUMBER.sub("", str(error))
            else:
                middle = (start + end) // 2
                pending += [(middle, end), (start, middle)]


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


def _unknown_in_table(table: pa.Table) -> Counter[str]:
    schema = study_arrow_schema()
    unknown: Counter[str] = Counter()
    for name in table.schema.names:
        position = schema.get_field_index(name)
        known = None if position < 0 else schema.field(position).type
        for chunk in table[name].chunks:
            _count_unknown(chunk, known, name, unknown)
    return unknown


def _count_unknown(
    values: pa.Array, known: pa.DataType | None, path: str, unknown: Counter[str]
) -> None:
    if known is None:
        if occurrences := len(values) - values.null_count:
            unknown[path] += occurrences
        return
    if values.type.equals(known):
        return
    if pa.types.is_list(values.type):
        _count_unknown(pc.list_flatten(values), known.value_type, f"{path}[]", unknown)
        return
    for index, inferred in enumerate(values.type):
        position = known.get_field_index(inferred.name)
        below = None if position < 0 else known.field(position).type
        # By number: a name that begins with a dot would be taken for a path.
        child = pc.struct_field(values, [index])
        _count_unknown(child, below, f"{path}.{inferred.name}", unknown)


def _unknown_in_json(study: dict[str, Any]) -> Counter[str]:
    unknown: Counter[str] = Counter()
    pending: list[tuple[Any, pa.DataType | pa.Schema, str]] = [(study, study_arrow_schema(), "")]
    while pending:
        value, known, path = pending.pop()
        if isinstance(value, list):
            pending += [(item, known.value_type, f"{path}[]") for item in value]
        elif isinstance(value, dict):
            for key, below in value.items():
                below_path = f"{path}.{key}" if path else key
                position = known.get_field_index(key)
                if position >= 0:
                    pending.append((below, known.field(position).type, below_path))
                elif below is not None:
                    unknown[below_path] += 1
    return unknown
