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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ctg_assets.model.fields import study_arrow_schema

_BLOCK_BYTES = 8 << 20

# A mistyped study costs a few readings of its batch, an unknown field a second one.
_BATCH_BYTES = 32 << 20

_ROW_NUMBER = re.compile(r"( in row \d+)$|^JSON parse error: ")


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


def parse_studies(studies: Sequence[bytes]) -> ParsedStudies:
    """Type some studies (JSON bytes); memory is a small multiple of their size.

    Never fails on content: what cannot be typed is in `rejections`.
    """
    # Raw newlines can only be white space between tokens (inside strings JSON wants them escaped),
    # and the reader takes one line for one row.
    lines = [study.replace(b"\n", b" ").replace(b"\r", b" ") for study in studies]
    tables = [study_arrow_schema().empty_table()]
    whole = ParsedStudies(tables[0], [])
    for start, end in _batches(lines):
        batch = _parse_batch(lines[start:end])
        tables.append(batch.studies)
        whole.accepted.extend(start + index for index in batch.accepted)
        whole.rejections.extend(Rejection(start + r.index, r.reason) for r in batch.rejections)
        whole.unknown_fields.update(batch.unknown_fields)
    return replace(whole, studies=pa.concat_tables(tables))


def _batches(lines: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Ranges of lines of about `_BATCH_BYTES` each."""
    start = size = 0
    for index, line in enumerate(lines):
        size += len(line)
        if size >= _BATCH_BYTES:
            yield start, index + 1
            start, size = index + 1, 0
    if start < len(lines):
        yield start, len(lines)


def _parse_batch(lines: list[bytes]) -> ParsedStudies:
    rejections: list[Rejection] = []
    accepted = list(range(len(lines)))
    try:
        inferred = _read(lines, "infer")
    except pa.ArrowInvalid:
        # Either a known field has a wrong type, or an unknown one differs from study to study.
        rejections = _find_mistyped(lines)
        mistyped = {rejection.index for rejection in rejections}
        accepted = [index for index in accepted if index not in mistyped]
        lines = [lines[index] for index in accepted]
        if not lines:
            return ParsedStudies(study_arrow_schema().empty_table(), [], rejections)
        try:
            inferred = _read(lines, "infer")
        except pa.ArrowInvalid:
            unknown = Counter[str]()
            for line in lines:
                unknown.update(_unknown_in_json(msgspec.json.decode(line)))
            return ParsedStudies(_read(lines, "ignore"), accepted, rejections, unknown)
    unknown = _unknown_in_table(inferred)
    typed = _read(lines, "ignore") if unknown else inferred
    return ParsedStudies(typed, accepted, rejections, unknown)


def _find_mistyped(lines: list[bytes]) -> list[Rejection]:
    """The studies that cannot be typed, by halving the batch; log2(n) readings for each of them."""
    rejections: list[Rejection] = []
    pending = [(0, len(lines))]
    while pending:
        start, end = pending.pop()
        try:
            _read(lines[start:end], "ignore")
        except pa.ArrowInvalid as error:
            if end - start == 1:
                rejections.append(Rejection(start, _ROW_NUMBER.sub("", str(error))))
            else:
                middle = (start + end) // 2
                pending += [(middle, end), (start, middle)]
    return rejections


def _read(lines: Sequence[bytes], unexpected_field_behavior: str) -> pa.Table:
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
        column = table[name].combine_chunks()
        position = schema.get_field_index(name)
        known = None if position < 0 else schema.field(position).type
        _count_unknown(column, known, name, unknown)
    return unknown


def _count_unknown(
    values: pa.Array, known: pa.DataType | None, path: str, unknown: Counter[str]
) -> None:
    if known is None:
        occurrences = len(values) - values.null_count
        unknown[path] += occurrences
        return
    if values.type.equals(known):
        return
    if pa.types.is_list(values.type):
        _count_unknown(pc.list_flatten(values), known.value_type, f"{path}[]", unknown)
        return
    for inferred in values.type:
        position = known.get_field_index(inferred.name)
        below = None if position < 0 else known.field(position).type
        child = pc.struct_field(values, inferred.name)
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
