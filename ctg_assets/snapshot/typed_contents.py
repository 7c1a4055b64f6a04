"""Contents of the history, typed as a snapshot has them.

What cannot be typed is set aside with its reason; what the model does not know is kept beside.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ctg_assets.model import json_text
from ctg_assets.model.identity import identify, may_be_odd
from ctg_assets.model.json_text import why_refused
from ctg_assets.model.nct_ids import EXPECTED, is_nct_id
from ctg_assets.snapshot import misfits, parsing, unmodelled
from ctg_assets.snapshot.parsing import parse_studies
from ctg_assets.snapshot.store import EXTRAS_SCHEMA, QUARANTINE_FILE_SCHEMA, snapshot_schema
from ctg_assets.snapshot.unmodelled import Extra

TYPING_CODE = (parsing, misfits, unmodelled, json_text)
"""The modules by which studies are typed."""


_NO_NCT_ID = f"protocolSection.identificationModule.nctId: expected {EXPECTED}; found no such id"

# What names a content of the history, and what a snapshot says of it beside the study itself.
CONTENT_COLUMNS = (
    "nct_id",
    "content_hash",
    "last_update_post_date",
    "extraction_id",
    "page",
    "contents_entry",
)


@dataclass(frozen=True)
class TypedContents:
    """Contents of studies, typed: as in a snapshot's files (`snapshot_schema()`, EXTRAS_SCHEMA, ...).

    `unknown_fields` counts the occurrences of fields outside the model, by path.
    """

    studies: pa.Table
    extras: pa.Table
    quarantined: pa.Table
    unknown_fields: Counter[str]


def type_contents(rows: pa.Table) -> TypedContents:
    """Type some contents of the history.

    `rows` have `nct_id`, `content_hash`, `last_update_post_date`, `extraction_id`, `page` and `study`.
    Never fails on content: what cannot be typed is quarantined with the reason.
    """
    history_ids = rows["nct_id"].to_pylist()
    raw = rows["study"]
    odd = dict(_odd(history_ids, rows["content_hash"].to_pylist(), raw))
    named = [i for i in range(len(raw)) if i not in odd]
    sound = raw.take(pa.array(named, pa.int64())) if odd else raw
    parsed = parse_studies(sound, identified=True)
    reasons = odd | {named[rejection.index]: rejection.reason for rejection in parsed.rejections}

    kept = rows.drop_columns("study").take(
        pa.array([named[i] for i in parsed.accepted], pa.int64())
    )
    facts = [kept[name] for name in snapshot_schema().names if name in kept.column_names]
    columns = [*facts, *parsed.studies.columns]
    rejected = sorted(reasons)
    quarantined = rows.take(pa.array(rejected, pa.int64()))
    return TypedContents(
        studies=pa.Table.from_arrays(columns, schema=snapshot_schema()),
        extras=_extra_rows([history_ids[i] for i in named], parsed.extras),
        quarantined=pa.table(
            [
                [identify(study).nct_id for study in quarantined["study"].to_pylist()],
                quarantined["extraction_id"],
                quarantined["page"],
                [reasons[i] for i in rejected],
                quarantined["study"],
                quarantined["nct_id"],
            ],
            schema=QUARANTINE_FILE_SCHEMA,
        ),
        unknown_fields=parsed.unknown_fields,
    )


def _odd(
    nct_ids: Sequence[str], content_hashes: Sequence[str], studies: pa.ChunkedArray
) -> Iterator[tuple[int, str]]:
    """The studies that are no sound JSON or have no NCT id, and why."""
    for i, (nct_id, content_hash) in enumerate(zip(nct_ids, content_hashes, strict=True)):
        named = is_nct_id(nct_id)
        if not named or may_be_odd(content_hash):
            reason = why_refused(studies[i].as_py()) or (None if named else _NO_NCT_ID)
            if reason is not None:
                yield i, reason


def _extra_rows(nct_ids: Sequence[str], extras: Sequence[Extra]) -> pa.Table:
    """Values from outside the model as rows of the snapshot's file."""
    return pa.table(
        [
            [nct_ids[extra.index] for extra in extras],
            [extra.path for extra in extras],
            ["/".join(map(str, extra.positions)) or None for extra in extras],
            [extra.json.decode() for extra in extras],
        ],
        schema=EXTRAS_SCHEMA,
    )


def model_fingerprint() -> str:
    """A digest of the schemas of a snapshot's files, and of the code by which studies are typed.

    So all parts of a snapshot are typed alike, and a content that is typed once more is as it was.
    """
    spelled = f"{snapshot_schema().to_string()}\n{EXTRAS_SCHEMA.to_string()}\n"
    code = [Path(str(module.__file__)).read_bytes() for module in TYPING_CODE]
    return hashlib.sha256(b"".join([spelled.encode(), *code])).hexdigest()
