"""Rows of AACT's tables that come from no study: of searches and MeSH, and what tells that they changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctg_assets.aact.other_rows import other_fingerprints, other_rows
from ctg_assets.aact.schema import aact_tables
from ctg_assets.extract.search_file import SearchFileError, saved_searches
from ctg_assets.extract.searches import evaluate_searches
from ctg_assets.lake import Lake, open_lake
from ctg_assets.registry.client import RegistryClient
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets_tests.aact.mesh_files import mesh_xml
from ctg_assets_tests.simulator.in_memory import InMemorySource, study

SEARCHES = """
[[search]]
name = "malaria"
query = "AREA[Condition]malaria"
grouping = "tropical"
[[search]]
name = "dengue"
query = "AREA[Condition]dengue"
"""
# As test_search_file.py has it; that of "dengue" was computed in the same way, by another program.
MALARIA, DENGUE = 35684220, 30305759


class Searcher:
    """A lake whose searches a simulator answers."""

    def __init__(self, settings: Settings, client: RegistryClient, simulator: RunningSimulator):
        self.settings = settings
        self.lake = open_lake(settings)
        self.client = client
        self.simulator = simulator

    def ask(self, **conditions: str) -> datetime:
        """Publish studies with these conditions, by `n<number>`, and ask the searches of the settings."""
        self.simulator.advance(
            InMemorySource(
                study(int(name[1:]), conditions=[condition])
                for name, condition in conditions.items()
            )
        )
        now = self.simulator.version.data_timestamp
        asked = saved_searches(self.settings.searches_file)
        evaluate_searches(self.client, self.lake.storage, asked, now)
        return datetime.fromisoformat(now)

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """The rows of a table."""
        return [
            tuple(row.values()) for row in other_rows(self.lake, self.settings)[table].to_pylist()
        ]

    def fingerprints(self) -> dict[str, str]:
        """What the rows depend on."""
        return other_fingerprints(self.lake, self.settings)

    def write(self, text: str) -> None:
        """Change the file of searches."""
        assert self.settings.searches_file is not None
        self.settings.searches_file.write_text(text, encoding="utf-8")


@pytest.fixture
def searcher(tmp_path: Path, client: RegistryClient, simulator: RunningSimulator) -> Searcher:
    """A lake with a file of two searches, not asked yet."""
    file = tmp_path / "searches.toml"
    file.write_text(SEARCHES, encoding="utf-8")
    settings = load_settings(
        data_dir=tmp_path / "data", api_url=simulator.api_url, query="", searches_file=file
    )
    return Searcher(settings, client, simulator)


def test_rows_have_the_schemas_of_their_tables(searcher: Searcher) -> None:
    """Whether there are any or not: they are copied as they are."""
    for _ in range(2):
        for name, rows in other_rows(searcher.lake, searcher.settings).items():
            (shape,) = (table.shape for table in aact_tables() if table.name == name)
            assert rows.schema.equals(shape.arrow_schema)
        searcher.ask(n1="Malaria")


def test_searches_that_were_answered_are_rows(searcher: Searcher) -> None:
    """In both of AACT's forms; a number is the search's, a result's is that and the study's."""
    assert searcher.rows("study_searches") == searcher.rows("search_results") == []
    first = searcher.ask(n1="Malaria", n2="Dengue")
    now = searcher.ask(n1="Malaria", n2="Dengue", n12345678="Malaria")
    assert searcher.rows("study_searches") == [
        (number, False, f"AREA[Condition]{name}", grouping, name, False, first, changed, True)
        for number, name, grouping, changed in [
            (MALARIA, "malaria", "tropical", now),
            (DENGUE, "dengue", "", first),
        ]
    ]
    assert searcher.rows("search_terms") == [
        (MALARIA, "malaria", "tropical", first, now),
        (DENGUE, "dengue", "", first, first),
    ]
    results = [
        (MALARIA, 1, "malaria", first, "tropical"),
        (MALARIA, 12345678, "malaria", now, "tropical"),
        (DENGUE, 2, "dengue", first, ""),
    ]
    assert searcher.rows("search_results") == [
        (search * 10**8 + number, f"NCT{number:08d}", name, at, at, grouping, search)
        for search, number, name, at, grouping in results
    ]
    assert searcher.rows("search_term_results") == [
        (search * 10**8 + number, f"NCT{number:08d}", search, at, at)
        for search, number, _, at, _ in results
    ]


def test_rows_of_a_time_are_those_found_then(searcher: Searcher) -> None:
    """For AACT as it stood: searches that had been asked, and the studies that they had."""
    first = searcher.ask(n1="Malaria", n2="Dengue").replace(tzinfo=UTC)
    second = searcher.ask(n2="Malaria").replace(tzinfo=UTC)
    found = {}
    for at in (first - timedelta(days=1), first, second):
        rows = other_rows(searcher.lake, searcher.settings, at)
        found[at] = [rows["study_searches"].num_rows, rows["search_results"]["id"].to_pylist()]
    assert list(found.values()) == [
        [0, []],
        [2, [MALARIA * 10**8 + 1, DENGUE * 10**8 + 2]],
        [2, [MALARIA * 10**8 + 2]],
    ]


def test_what_is_not_in_the_file_is_no_row(searcher: Searcher) -> None:
    """A search that was taken out is gone, and one that was put in comes with the registry's answer."""
    searcher.ask(n1="Malaria", n2="Dengue")
    searcher.write('[[search]]\nname = "malaria"\nquery = "other"\n[[search]]\nname="x"\nquery="y"')
    ((number, _, query, *_),) = searcher.rows("study_searches")
    # The studies are those of the query that was asked.
    assert (number, query) == (MALARIA, "AREA[Condition]malaria")
    assert [row[1] for row in searcher.rows("search_results")] == ["NCT00000001"]


def test_what_changes_the_rows_changes_the_fingerprint(searcher: Searcher) -> None:
    """An answer, a group, a search more or less; nothing else."""
    seen = [searcher.fingerprints()]
    searcher.ask(n1="Malaria")
    seen.append(searcher.fingerprints())
    assert searcher.fingerprints() == seen[-1]
    searcher.write(SEARCHES.replace("tropical", "hot"))
    seen.append(searcher.fingerprints())
    searcher.write(SEARCHES.split('[[search]]\nname = "dengue"', maxsplit=1)[0])
    seen.append(searcher.fingerprints())
    assert len({found["searches"] for found in seen}) == len(seen)
    searcher.write(SEARCHES + '[[search]]\nname = "not asked yet"\nquery = "x"\n')
    assert searcher.fingerprints() == seen[1]


def test_mesh_is_there_if_a_file_is_given(searcher: Searcher, tmp_path: Path) -> None:
    """Without the setting the tables are empty, as AACT's are."""
    assert other_rows(searcher.lake, searcher.settings).keys().isdisjoint({"mesh_terms"})
    file = tmp_path / "desc.xml"
    file.write_text(mesh_xml(), encoding="utf-8")
    before = searcher.fingerprints()
    searcher.settings = searcher.settings.model_copy(update={"mesh_file": file})
    assert len(searcher.rows("mesh_terms")) == 7
    assert len(searcher.rows("mesh_headings")) == 3
    after = searcher.fingerprints()
    assert after != before
    assert after["searches"] == before["searches"]


def test_a_file_of_searches_that_cannot_be_used_is_said(searcher: Searcher) -> None:
    """As any setting that cannot be used, before anything is made by it."""
    searcher.write("[[search")
    for look in (other_rows, other_fingerprints):
        with pytest.raises(SearchFileError, match="not TOML"):
            look(searcher.lake, searcher.settings)


def test_damage_is_said(searcher: Searcher) -> None:
    """A damaged answer gives no rows in silence: it is set aside by a repair, and asked for again."""
    searcher.ask(n1="Malaria", n2="Dengue")
    for name in searcher.lake.storage.names("searches"):
        file = Path(searcher.lake.storage.path(f"searches/{name}"))
        content = file.read_bytes()
        file.write_bytes(content[:-9] + b"x" + content[-8:])
        with pytest.raises(DamagedFileError, match=name):
            other_rows(searcher.lake, searcher.settings)
        file.write_bytes(content)


def test_nothing_asked_is_nothing_found(lake: Lake, settings: Settings) -> None:
    """With the search that there is without a file, in a lake that never met the registry."""
    assert not any(rows.num_rows for rows in other_rows(lake, settings).values())
