"""The file of saved searches: what it may say, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctg_assets.aact.views import COVID_SEARCH
from ctg_assets.errors import ExitCode
from ctg_assets.extract import search_file
from ctg_assets.extract.search_file import SavedSearch, SearchFileError, saved_searches

MALARIA_ID = 35684220
MALARIA = '[[search]]\nname = "malaria"\nquery = "AREA[Condition]malaria"\n'


def read(tmp_path: Path, text: str) -> tuple[SavedSearch, ...]:
    """The searches of a file with this text."""
    file = tmp_path / "searches.toml"
    file.write_text(text, encoding="utf-8")
    return saved_searches(file)


def refusal(tmp_path: Path, text: str) -> str:
    """What is said of a file with this text."""
    with pytest.raises(SearchFileError) as found:
        read(tmp_path, text)
    assert found.value.exit_code == ExitCode.UNUSABLE_SETTINGS
    assert str(tmp_path / "searches.toml") in str(found.value)
    return str(found.value)


def test_a_file_names_searches_in_order(tmp_path: Path) -> None:
    """Each has a name and a query, and a group if it says so."""
    first, second = read(
        tmp_path,
        MALARIA + '[[search]]\nname = " in Chad "\nquery = "Chad"\ngrouping = "countries"\n',
    )
    assert first == SavedSearch(name="malaria", query="AREA[Condition]malaria", grouping="")
    assert second == SavedSearch(name="in Chad", query="Chad", grouping="countries")


def test_without_a_file_there_is_the_search_for_covid_19() -> None:
    """It bears the name by which AACT's view asks for it."""
    (only,) = saved_searches(None)
    assert only.name == COVID_SEARCH == "covid-19"


@pytest.mark.parametrize("text", ["", "# none\n", "search = []\n"])
def test_a_file_may_name_none(tmp_path: Path, text: str) -> None:
    """So searches are switched off."""
    assert read(tmp_path, text) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[search]\n", "is not TOML"),
        ('[search]\nname = "x"\n', "the file consists of [[search]] tables"),
        ('[[sink]]\nname = "x"\n', "the file consists of [[search]] tables"),
        ('[[search]]\nname = "x"\n', "search 'x': query: Field required. Expected: an Essie"),
        ('[[search]]\nquery = "x"\n', "search number 1: name: Field required"),
        ('[[search]]\nname = "x"\nquery = " "\n', "search 'x': query: String should have at least"),
        ('[[search]]\nname = "x"\nquery = 3\n', "found 3. Expected: an Essie expression"),
        (MALARIA + 'group = "x"\n', "group: no such entry; there are name, query, grouping"),
        (MALARIA + MALARIA, "search 'malaria': the name is given twice"),
        ('search = ["x"]\n', "search number 1: Input should be"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    """Which search, which entry, what was found and what is expected."""
    assert said in refusal(tmp_path, text)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Nobody has to correct a file line by line."""
    told = refusal(tmp_path, '[[search]]\nname = "x"\n[[search]]\nquery = "y"\n')
    assert "'x': query" in told
    assert "number 2: name" in told


def test_a_file_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    """The message names the variable."""
    with pytest.raises(SearchFileError, match=r"absent\.toml.*CTG_SEARCHES_FILE"):
        saved_searches(tmp_path / "absent.toml")


def test_numbers_of_searches_hang_on_the_name_alone() -> None:
    """The same on every machine, whatever is asked; 90 million of them leave room for a study's number."""
    one = SavedSearch(name="malaria", query="a", grouping="b")
    other = SavedSearch(name="malaria", query="c", grouping="d")
    # The first eight bytes of the SHA-256 of "malaria", modulo 90,000,000, plus one; by another program.
    assert one.search_id == other.search_id == MALARIA_ID
    assert search_file._MOST_SEARCH_IDS * 10**8 + 10**8 - 1 < 2**53


def test_two_names_of_one_number_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By chance two names may have the same number, and their results would be mixed up."""
    monkeypatch.setattr(search_file, "_MOST_SEARCH_IDS", 1)
    text = MALARIA + '[[search]]\nname = "dengue"\nquery = "dengue"\n'
    assert "search 'dengue': its name gives the same number as 'malaria'" in refusal(tmp_path, text)


def test_the_documented_file_can_be_used(tmp_path: Path) -> None:
    """What docs/aact.md shows is taken as it stands."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "aact.md").read_text(encoding="utf-8")
    shown = page.partition("```toml\n")[2].partition("```")[0]
    assert [search.name for search in read(tmp_path, shown)] == ["covid-19", "malaria in Chad"]
