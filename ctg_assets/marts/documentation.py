"""The page of definitions: every mart and column, as the dbt project describes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ctg_assets.errors import CtgAssetsError
from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.model.documentation.markdown import cell, literal

MARTS_DIR = PROJECT_DIR / "models" / "marts"

_ORIGIN = "Written by `make generate` from dbt_project/models/marts; change it there."

_INTRODUCTION = f"""\
# Marts

<!-- {_ORIGIN} -->

Every table of schema `marts`, with the definition of each column. The same texts are the comments in Postgres.
How a mart is added is in [add_a_mart.md](add_a_mart.md).

## How to read it

**Key** is the column by which a row is told from others. **NULL** says `no` where a test proves after each build that there is none.

**Source** names the column of schema `staging` that is handed on as it is; [data_dictionary.md](data_dictionary.md) has its
path in the registry's JSON. All other columns are made by the mart's SQL, and their meaning says how.

**Made from** lists what the SQL reads: views `stg_*` of the staging tables, other marts, and steps `int_*` between.

**A build computes** the rows of *changed studies* only, if the newest load was of some studies, or *everything*. Either way only rows
that differ are written.
"""

# A paragraph of a description that begins so is about where a definition comes from, or what it cannot say.
_LABELS = ("Source:", "Not known:")

_DOC = re.compile(r"""\{\{\s*doc\(\s*["'](\w+)["']\s*\)\s*\}\}""")
_DOC_BLOCK = re.compile(r"\{%-?\s*docs (\w+)\s*-?%\}\n?(.*?)\n?\{%-?\s*enddocs\s*-?%\}", re.DOTALL)
_REF = re.compile(r"""\bref\(\s*["'](\w+)["']\s*\)""")
_UNIQUE_KEY = re.compile(r"""\bunique_key\s*=\s*(\[[^\]]*\]|["'][^"']*["'])""")


class UndescribedMartError(CtgAssetsError):
    """A mart of the project lacks its properties, or refers to a text that is not there."""


@dataclass(frozen=True)
class MartColumn:
    """A column: what it means, which column of staging it hands on, if any, and what its tests say."""

    name: str
    meaning: str
    source: tuple[str, str] | None
    is_required: bool
    values: tuple[str, ...]


@dataclass(frozen=True)
class Mart:
    """A mart as its SQL and its properties declare it."""

    name: str
    sql: Path
    paragraphs: tuple[str, ...]
    columns: tuple[MartColumn, ...]
    key: tuple[str, ...]
    reads: tuple[str, ...]
    follows_changed_studies: bool


def doc_blocks(text: str) -> dict[str, str]:
    """The texts of the doc blocks in a file of dbt's, by name."""
    return dict(_DOC_BLOCK.findall(text))


def read_marts(staging_docs: str, folder: Path = MARTS_DIR) -> dict[str, list[Mart]]:
    """The marts by the folder in which they lie, both in the order of their names.

    `staging_docs` is the file of doc blocks of staging tables and columns. Raises UndescribedMartError.
    """
    docs = doc_blocks(staging_docs)
    properties: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.rglob("*.md")):
        docs |= doc_blocks(path.read_text(encoding="utf-8"))
    for path in sorted(folder.rglob("*.yml")):
        content = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader) or {}
        properties |= {model["name"]: model for model in content.get("models", ())}
    found: dict[str, list[Mart]] = {}
    for path in sorted(folder.rglob("*.sql")):
        if path.stem not in properties:
            message = f"{path} has no properties; describe model {path.stem} in {path.stem}.yml"
            raise UndescribedMartError(message)
        subject = path.relative_to(folder).parts[0]
        found.setdefault(subject, []).append(_mart(path, properties[path.stem], docs))
    return found


def marts_page(marts: Mapping[str, Sequence[Mart]], docs: Path) -> str:
    """The page; `docs` is the folder in which it lies, with pages of the subjects that have one."""
    parts = [_INTRODUCTION, "## Tables\n", _contents(marts)]
    for subject, members in marts.items():
        parts.append(f"## {_title(subject)}\n")
        if (docs / f"{subject}.md").exists():
            parts.append(f"How to use them: [{subject}.md]({subject}.md).\n")
        parts += ["\n".join(_section(mart, docs, marts)) for mart in members]
    return "\n".join(parts)


def _mart(sql: Path, properties: Mapping[str, Any], docs: Mapping[str, str]) -> Mart:
    text = sql.read_text(encoding="utf-8")
    key = _UNIQUE_KEY.search(text)
    return Mart(
        name=sql.stem,
        sql=sql,
        paragraphs=tuple(_described(properties, docs, sql.stem).split("\n")),
        columns=tuple(_column(one, docs, sql.stem) for one in properties.get("columns", ())),
        key=tuple(re.findall(r"\w+", key[1])) if key else (),
        reads=tuple(sorted({*_REF.findall(text)} - {sql.stem})),
        follows_changed_studies="of_changed_studies(" in text,
    )


def _column(properties: Mapping[str, Any], docs: Mapping[str, str], model: str) -> MartColumn:
    name = properties["name"]
    handed_on = _DOC.fullmatch(properties.get("description", "").strip())
    table, _, column = handed_on[1].partition("__") if handed_on else ("", "", "")
    tests = dict(map(_test, properties.get("data_tests", ())))
    accepted = tests.get("accepted_values", {}).get("arguments", {})
    return MartColumn(
        name=name,
        meaning=_described(properties, docs, f"{model}.{name}"),
        source=(table, column) if column else None,
        is_required="not_null" in tests,
        values=tuple(map(str, accepted.get("values", ()))),
    )


def _test(declared: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Name and properties of a test; one that only warns proves nothing and has no name here."""
    if isinstance(declared, str):
        return declared, {}
    [(name, properties)] = declared.items()
    warns = properties.get("config", {}).get("severity") == "warn"
    return "" if warns else name, properties


def _described(properties: Mapping[str, Any], docs: Mapping[str, str], name: str) -> str:
    """A description with the texts that it refers to; a line of it is a paragraph."""

    def text_of(reference: re.Match[str]) -> str:
        if reference[1] not in docs:
            message = f"the description of {name} refers to {reference[0]}, which is nowhere"
            raise UndescribedMartError(message)
        return docs[reference[1]]

    described = _DOC.sub(text_of, properties.get("description", "")).strip()
    if not described:
        message = f"{name} has no description"
        raise UndescribedMartError(message)
    return re.sub(r"\n+", "\n", described)


def _contents(marts: Mapping[str, Sequence[Mart]]) -> str:
    lines = ["| subject | mart | one row |", "|---|---|---|"]
    for subject, members in marts.items():
        for number, mart in enumerate(members):
            title = _title(subject) if number == 0 else ""
            first = re.split(r"(?<=[.;:])\s", mart.paragraphs[0], maxsplit=1)[0]
            said = re.sub("^One row ", "", first).rstrip(".;:")
            lines.append(f"| {title} | [{mart.name}](#{mart.name}) | {cell(said)} |")
    return "\n".join([*lines, ""])


def _section(mart: Mart, docs: Path, marts: Mapping[str, Sequence[Mart]]) -> Iterator[str]:
    yield f"### {mart.name}"
    yield ""
    for paragraph in mart.paragraphs:
        yield _paragraph(paragraph)
        yield ""
    if mart.key:
        yield f"- Key: {', '.join(f'`{name}`' for name in mart.key)}"
    here = {one.name for members in marts.values() for one in members}
    read = [f"[{name}](#{name})" if name in here else f"`{name}`" for name in mart.reads]
    if read:
        yield f"- Made from: {', '.join(read)}"
    yield f"- A build computes: {'changed studies' if mart.follows_changed_studies else 'everything'}"
    yield f"- SQL: [{mart.sql.name}](../{mart.sql.relative_to(docs.parent).as_posix()})"
    yield ""
    yield "| column | NULL | meaning | source |"
    yield "|---|---|---|---|"
    for column in mart.columns:
        yield _row(column)
    yield ""


def _row(column: MartColumn) -> str:
    meaning = "<br>".join(map(_paragraph, column.meaning.split("\n"))).replace("|", "\\|")
    if column.values:
        meaning += f"<br>Values: {', '.join(f'`{value}`' for value in column.values)}."
    source = ""
    if column.source:
        table, name = column.source
        source = f"[{table}](data_dictionary.md#{table}).`{name}`"
    return f"| `{column.name}` | {'no' if column.is_required else ''} | {meaning} | {source} |"


def _paragraph(text: str) -> str:
    for label in _LABELS:
        if text.startswith(label):
            return f"**{label.removesuffix(':')}.** {literal(text.removeprefix(label).strip())}"
    return literal(text)


def _title(subject: str) -> str:
    return subject.replace("_", " ").capitalize()
