"""What a release says of itself in words: its data dictionary, and how to read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ctg_assets.release.manifest import DUCKDB_FILE, MANIFEST_FILE, ReleaseManifest, release_path
from ctg_assets.release.table_files import ReleasedShape

_HEADER = ("schema", "table", "column", "type", "nullable", "key", "refers_to", "description")


def dictionary_csv(shapes: Sequence[ReleasedShape]) -> bytes:
    """The data dictionary: a line for each table, and one for each of its columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    for shape in shapes:
        writer.writerow([shape.schema, shape.name, "", "", "", "", "", shape.description])
        refers = {
            own: f"{reference.table}.{other}"
            for reference in shape.references
            for own, other in zip(reference.columns, reference.to, strict=True)
        }
        for column in shape.columns:
            writer.writerow(
                [
                    shape.schema,
                    shape.name,
                    column.name,
                    str(column.type),
                    "yes" if column.nullable else "no",
                    "yes" if column.name in shape.key else "",
                    refers.get(column.name, ""),
                    column.description,
                ]
            )
    return text.getvalue().encode()


_README = """\
# ClinicalTrials.gov, release {name}

{tables} tables, {rows:,} rows in {files:,} Parquet files (zstd), as of the registry's data version {data} UTC; {census}.

`releases/{name}/manifest.json` names every file with rows, bytes and SHA-256; `data_dictionary.csv` beside it says what
each column means. Files of tables (`tables/<schema>/<table>/…`) are shared with other releases, so take those that the
manifest names rather than all that lie in a folder. `latest.json` names the newest release.

All rows are sorted by the study (of changes: by `change_seq`), within a file and from file to file. `ctg-assets verify`
with this folder checks all of it, offline.

## Five ways to read it

All of them in this folder; for the last four, `paths` are the files of each table:

```python
import json, pathlib
manifest = json.loads(pathlib.Path("{manifest}").read_text())
paths = {{f"{{t['schema']}}.{{t['name']}}": [f["path"] for f in t["files"]] for t in manifest["tables"]}}
```

**DuckDB** has all tables as views, with comments, in `ctg.duckdb` (from another folder: `SET file_search_path = '…'` first):

```sh
duckdb -readonly {duckdb} "SELECT overall_status, count(*) FROM staging.studies GROUP BY ALL"
```

**Polars**

```python
import polars as pl
pl.scan_parquet(paths["staging.conditions"]).group_by("name").len().sort("len", descending=True).head(10).collect()
```

**pandas** (`dtype_backend` keeps integers with missing values integers, and dates dates)

```python
import pandas as pd
pd.read_parquet(paths["staging.studies"], dtype_backend="pyarrow")
```

**Spark**

```python
spark.read.parquet(*paths["staging.studies"]).groupBy("phase").count().show()
```

**ClickHouse** (also `chdb`, without a server)

```python
import chdb
files = "{{" + ",".join(paths["staging.studies"]) + "}}"
print(chdb.query(f"SELECT phase, count() FROM file('{{files}}') GROUP BY phase"))
```
"""


def readme(release: ReleaseManifest) -> bytes:
    """How to read a release, as Markdown."""
    return _README.format(
        name=release.name,
        tables=len(release.tables),
        rows=sum(table.rows for table in release.tables),
        files=sum(len(table.files) for table in release.tables),
        data=release.data_timestamp,
        census=release.census.verdict,
        manifest=release_path(release.name, MANIFEST_FILE),
        duckdb=release_path(release.name, DUCKDB_FILE),
    ).encode()
