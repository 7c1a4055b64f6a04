"""Snapshot rows for tests: from plain Python studies, and from the recorded real ones."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.snapshot.parsing import parse_studies
from ctg_assets_tests.shared_material import shared_path

Study = dict[str, Any]


def snapshot_rows(studies: Sequence[Study]) -> list[Study]:
    """Snapshot rows as Python objects, with NCT ids NCT00000001, NCT00000002 … in order."""
    return [
        {"nct_id": f"NCT{number:08}", "content_hash": f"hash {number}", **study}
        for number, study in enumerate(studies, 1)
    ]


def snapshot(*studies: Study) -> pa.Table:
    """The same as an Arrow table of the snapshot's types."""
    schema = pa.schema(
        [("nct_id", pa.string()), ("content_hash", pa.string()), *study_arrow_schema()]
    )
    return pa.Table.from_pylist(snapshot_rows(studies), schema=schema)


def typed_rows(contents: Iterable[bytes]) -> pa.Table:
    """Snapshot rows of studies given as JSON, but for those that cannot be typed."""
    parsed = parse_studies(contents).studies
    nct_id = pc.struct_field(parsed["protocolSection"], ["identificationModule", "nctId"])
    hashes = pc.binary_join_element_wise("hash of", nct_id, " ")
    return parsed.append_column("nct_id", nct_id).append_column("content_hash", hashes)


@cache
def real_studies() -> tuple[list[Study], pa.Table]:
    """The recorded studies as plain objects and as snapshot rows; skips where there are none.

    One study is left out: its patientRegistry is a string, so that it cannot be typed.
    """
    kept, parsed = [], []
    content = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes())
    for line in content.splitlines(keepends=True):
        study = json.loads(line)
        design = study["protocolSection"].get("designModule", {})
        if not isinstance(design.get("patientRegistry"), str):
            kept.append(line)
            parsed.append(study)
    typed = pj.read_json(
        io.BytesIO(b"".join(kept)),
        read_options=pj.ReadOptions(block_size=8 << 20),
        parse_options=pj.ParseOptions(
            explicit_schema=study_arrow_schema(), unexpected_field_behavior="ignore"
        ),
    )
    nct_id = pc.struct_field(typed["protocolSection"], ["identificationModule", "nctId"])
    hashes = pc.binary_join_element_wise("hash of", nct_id, " ")
    rows = [
        {"nct_id": name, "content_hash": f"hash of {name}", **study}
        for name, study in zip(nct_id.to_pylist(), parsed, strict=True)
    ]
    typed = typed.append_column("nct_id", nct_id).append_column("content_hash", hashes)
    return rows, typed
