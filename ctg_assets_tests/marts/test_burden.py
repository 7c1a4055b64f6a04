"""Causes of the Global Health Estimates and their MeSH terms; trials by cause, country and year, of recorded studies."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.report.asking import ask
from ctg_assets.report.figures import SECTIONS
from ctg_assets_tests.conftest import RecordedBuild, new_database
from ctg_assets_tests.marts.projects import dbt_on, rows, values
from ctg_assets_tests.marts.test_entities import (
    codes_by_name,
    locations,
    normalised,
    removed_countries,
    seed,
)
from ctg_assets_tests.marts.who_estimates import ESTIMATE, ESTIMATES
from ctg_assets_tests.model.snapshots import Study, real_studies
from ctg_assets_tests.shared_material import shared_path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "burden.md"

DATA_DATE = "2026-08-13"

# Headings that stand in two places of MeSH, and are of two causes that are counted.
OF_TWO_CAUSES = {
    "amyloid neuropathies, familial",
    "bronchiolitis obliterans syndrome",
    "cardio-renal syndrome",
    "diabetic nephropathies",
    "diabetic retinopathy",
    "lupus nephritis",
    "myocardial reperfusion injury",
}


@cache
def causes_of_who() -> dict[str, dict[str, str]]:
    """WHO's tree of causes as it was found elsewhere, by code; skips where it is not."""
    with shared_path("gho/ghe_causes.csv").open(encoding="utf-8", newline="") as file:
        return {row["code"]: row for row in csv.DictReader(file)}


def leaves() -> set[str]:
    """The causes of GHE2021 that no other one of it is a part of."""
    current = {code: row for code, row in causes_of_who().items() if row["in_ghe2021"] == "1"}
    return current.keys() - {row["parent_code"] for row in current.values()}


def line(code: str) -> list[str]:
    """A cause and all that it is a part of."""
    return [code, *(line(parent) if (parent := causes_of_who()[code]["parent_code"]) else [])]


def conditions(study: Study) -> Iterator[tuple[str, str, bool]]:
    """Each MeSH term of the study's conditions, its id, and whether it was assigned or stands above one."""
    module = study.get("derivedSection", {}).get("conditionBrowseModule", {})
    for name, is_own in (("meshes", True), ("ancestors", False)):
        for term in module.get(name, []):
            if term.get("term"):
                yield normalised(term["term"]), term.get("id"), is_own


def test_causes_are_those_of_who() -> None:
    """The seed has WHO's causes with their place in the tree, and which of them WHO ranks and each release has."""
    columns = ("parent_code", "cause_level", "in_ghe2019", "in_ghe2021", "is_ranked")
    found = {row["cause_code"]: [row[name] for name in columns] for row in seed("ghe_causes")}
    assert found == {
        code: [
            *(row["parent_code"], row["level"]),
            *("true" if row[name] == "1" else "false" for name in ("in_ghe2019", "in_ghe2021")),
            "true" if row["rankable_2021"] == "1" else "false",
        ]
        for code, row in causes_of_who().items()
    }


def test_every_leaf_has_terms_or_a_reason() -> None:
    """Each of the 187 leaves has terms that tell its trials, or says why it has none; what has both would be wrong."""
    told = {row["cause_code"] for row in seed("ghe_cause_terms") if row["is_excluded"] == "false"}
    reasons = {row["cause_code"] for row in seed("ghe_causes") if row["no_terms_reason"]}
    assert len(leaves()) == 187
    assert leaves() - told == reasons & leaves()
    assert not told & reasons
    # A reason that sends the reader to a group is right only if the group has terms.
    for row in seed("ghe_causes"):
        if "counted at" in row["no_terms_reason"]:
            assert {row["no_terms_reason"].rpartition(" ")[2].rstrip(".")} <= told


@pytest.mark.slow
def test_terms_are_reviewed_once() -> None:
    """No term is of two causes; what is excluded from one is of another, or was reviewed as being of none; ids are MeSH's."""
    rows = seed("ghe_cause_terms")
    included = Counter(row["mesh_term"] for row in rows if row["is_excluded"] == "false")
    assert [term for term, count in included.items() if count > 1] == []
    ids = {normalised(row["mesh_term"]): row["mesh_id"] for row in rows}
    sent: dict[str, set[str]] = defaultdict(set)
    for study in real_studies()[0]:
        for term, mesh_id, _ in conditions(study):
            # Old records pad descriptors with zeros.
            sent[term].add(mesh_id[0] + mesh_id[4:] if mesh_id.startswith("D000") else mesh_id)
    known = ids.keys() & sent.keys()
    assert len(known) > 250
    unpadded = {
        term: ids[term][0] + ids[term][4:] if ids[term].startswith("D000") else ids[term]
        for term in known
    }
    assert {term for term in known if unpadded[term] not in sent[term]} == set()


def test_no_cause_is_counted_twice(recorded: PostgresAddress) -> None:
    """Each leaf is in exactly one of the causes that are counted, and none of these is a part of another."""
    found = dict(
        values(recorded, "SELECT cause_code::text, counted_code::text FROM marts.dim_ghe_cause")
    )
    counted = {code for code, by in found.items() if by == code}
    assert len(counted) == 152
    assert {code for code, row in causes_of_who().items() if row["rankable_2021"] == "1"} <= counted
    for code in leaves():
        assert [one for one in line(code) if one in counted] == [found[code]]
    assert [code for code in counted if counted & {*line(code)[1:]}] == []


@cache
def causes_of_studies() -> dict[str, set[str]]:
    """The causes of each recorded study by the seed, those that they are a part of included."""
    terms: dict[str, dict[str, bool]] = defaultdict(dict)
    for row in seed("ghe_cause_terms"):
        terms[row["cause_code"]][normalised(row["mesh_term"])] = row["is_excluded"] == "true"
    found: dict[str, set[str]] = {}
    for study in real_studies()[0]:
        sent = {term for term, _, _ in conditions(study)}
        own = {
            code
            for code, known in terms.items()
            if sent & known.keys() and not any(known[term] for term in sent & known.keys())
        }
        nct_id = study["protocolSection"]["identificationModule"]["nctId"]
        found[nct_id] = {above for code in own for above in line(code)}
    return found


def test_studies_are_of_the_causes_of_their_terms(recorded: PostgresAddress) -> None:
    """Each study is of the causes that the seed and the tree tell of its terms in the JSON."""
    found: dict[str, set[str]] = defaultdict(set)
    for nct_id, code in values(
        recorded, "SELECT nct_id, cause_code::text FROM marts.fct_study_ghe_cause"
    ):
        found[nct_id].add(code)
    expected = {nct_id: causes for nct_id, causes in causes_of_studies().items() if causes}
    assert len(expected) > 2_000
    assert found == expected


def test_a_term_is_of_one_cause(recorded: PostgresAddress) -> None:
    """A study with a single term is of one cause that is counted, but for headings that were looked at."""
    statement = """
        WITH single AS (
            SELECT nct_id, min(downcase_mesh_term) AS term FROM marts.fct_study_mesh_term
            WHERE kind = 'condition' AND relation = 'own' GROUP BY nct_id HAVING count(*) = 1
        )
        SELECT DISTINCT term FROM (
            SELECT term, nct_id FROM single JOIN marts.fct_study_ghe_cause AS of_cause USING (nct_id)
            JOIN marts.dim_ghe_cause AS cause USING (cause_code)
            WHERE cause.counted_code = cause.cause_code
            GROUP BY term, nct_id HAVING count(*) > 1
        ) AS of_several
    """
    assert {term for (term,) in values(recorded, statement)} == OF_TWO_CAUSES


def started(study: Study) -> int | None:
    """The year in which a trial started, if it is one that has."""
    protocol = study["protocolSection"]
    status = protocol["statusModule"]
    start = status.get("startDateStruct", {}).get("date", "")
    if (
        protocol.get("designModule", {}).get("studyType") != "INTERVENTIONAL"
        or status.get("overallStatus") in {"WITHDRAWN", "NOT_YET_RECRUITING"}
        or not "1950" <= start <= DATA_DATE
    ):
        return None
    return int(start[:4])


def test_trials_by_country_are_those_of_the_json(recorded: PostgresAddress) -> None:
    """Trials by country and year of start, and their sites, agree with the raw studies; sponsors are of some origin or of none known."""
    trials: Counter[tuple[str, int]] = Counter()
    sites: Counter[tuple[str, int]] = Counter()
    for study in real_studies()[0]:
        year = started(study)
        if year is None:
            continue
        named = Counter(
            codes_by_name()[normalised(site["country"])]
            for site in locations(study)
            if site.get("country")
        )
        for code, count in named.items():
            trials[code, year] += 1
            sites[code, year] += count
        assert not named.keys() & {normalised(name) for name in removed_countries(study)}
    found = values(
        recorded,
        "SELECT country_code, year, trials_started, sites, trials_domestic + trials_foreign "
        "+ trials_unknown_origin FROM marts.trials_by_country_year WHERE trials_started > 0",
    )
    assert sorted(found) == sorted(
        (*key, count, sites[key], count) for key, count in trials.items()
    )


def test_origins_are_what_is_known_of_sponsors(recorded: PostgresAddress) -> None:
    """Trials that a country's own companies and universities lead there are domestic; those from abroad are not."""
    statement = """
        SELECT sum(trials_domestic), sum(trials_foreign) FROM marts.trials_by_country_year
        WHERE country_code = '{}'
    """
    [(at_home, from_abroad)] = values(recorded, statement.format("CHN"))
    assert at_home > from_abroad
    # Few companies are led from Bulgaria; many run trials there.
    [(at_home, from_abroad)] = values(recorded, statement.format("BGR"))
    assert at_home < from_abroad


@cache
def estimates() -> dict[tuple[str, str], float]:
    """Recorded death rates of 2021 by country and code of the cause, of five countries."""
    codes = {row["title"]: code for code, row in causes_of_who().items()}
    # WHO's own spelling.
    codes["Food-borne trematodes"] = codes["Food-bourne trematodes"]
    text = gzip.decompress(shared_path("gho/ghe_sample.csv.gz").read_bytes()).decode()
    return {
        (row["DIM_COUNTRY_CODE"], codes[row["DIM_GHECAUSE_TITLE"].strip()]): float(
            row["VAL_DTHS_RATE100K_NUMERIC"]
        )
        for row in csv.DictReader(text.splitlines())
        if row["SOURCE"] == "dd2021"
        and row["DIM_SEX_CODE"] == "BTSX"
        and row["DIM_COUNTRY_CODE"] in {"BRA", "DEU", "IND", "KEN", "USA"}
    }


@pytest.fixture(scope="module")
def compared(
    server: PostgresAddress, recorded_build: RecordedBuild, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresAddress]:
    """Marts of the recorded studies beside WHO's rows; a thousand years of life stand for each death in a hundred thousand."""
    with new_database(server, recorded_build.database) as address:
        with connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(ESTIMATES)
            for (country, code), rate in estimates().items():
                total = ("TOTAL", "TOTAL", code, rate * 1000)
                cursor.execute(ESTIMATE, ("GHE2021", country, 2021, *total))
            # What must not count: an earlier release of the year, parts of the total, and of a ranked cause.
            cursor.execute(ESTIMATE, ("GHE2019", "IND", 2021, "TOTAL", "TOTAL", 30, 7e9))
            cursor.execute(ESTIMATE, ("GHE2021", "IND", 2021, "MALE", "TOTAL", 30, 8e9))
            cursor.execute(ESTIMATE, ("GHE2021", "IND", 2021, "TOTAL", "Y40T44", 30, 8e9))
            cursor.execute(ESTIMATE, ("GHE2021", "IND", 2021, "TOTAL", "TOTAL", 661, 9e9))
            # A year that the earlier release alone has, and a cause that nobody knows.
            cursor.execute(ESTIMATE, ("GHE2019", "IND", 2015, "TOTAL", "TOTAL", 30, 2e6))
            cursor.execute(ESTIMATE, ("GHE2021", "IND", 2021, "TOTAL", "TOTAL", 9999, 9e9))
        said = dbt_on(
            address,
            tmp_path_factory.mktemp("dbt"),
            *("build", "--exclude-resource-type", "unit_test"),
            *("--select", "burden_by_country_cause_year+"),
        )
        assert re.findall(r" WARN \d+ (\w+) ", said) == ["burden_is_of_known_causes_and_countries"]
        assert "WARN=1 ERROR=0" in said
        yield address


def under_way(year: int) -> Counter[tuple[str, str]]:
    """Trials under way in a year by country and counted cause, and by `world` and cause."""
    ranked = {code for code, row in causes_of_who().items() if row["rankable_2021"] == "1"}
    found: Counter[tuple[str, str]] = Counter()
    for study in real_studies()[0]:
        start = started(study)
        if start is None or start > year:
            continue
        status = study["protocolSection"]["statusModule"]
        end = next(
            (
                status[name]["date"]
                for name in ("primaryCompletionDateStruct", "completionDateStruct")
                if status.get(name, {}).get("date")
            ),
            DATA_DATE,
        )
        if max(int(end[:4]), start) < year:
            continue
        nct_id = study["protocolSection"]["identificationModule"]["nctId"]
        for code in causes_of_studies()[nct_id] & ranked:
            places = {
                codes_by_name()[normalised(site["country"])]
                for site in locations(study)
                if site.get("country")
            }
            found.update((place, code) for place in {*places, "world"})
    return found


def test_gaps_compare_burden_with_trials(compared: PostgresAddress) -> None:
    """Burden is WHO's, of the newest release; trials of a country and cause are those that the JSON tells."""
    trials = under_way(2021)
    reasons = {row["cause_code"] for row in seed("ghe_causes") if row["no_terms_reason"]}
    found = {
        (row["country_code"], row["code"]): (row["dalys"], row["trials_under_way"])
        for row in rows(
            compared, "SELECT *, cause_code::text AS code FROM marts.research_gap WHERE year = 2021"
        )
    }
    assert found.keys() == estimates().keys()
    for (country, code), (dalys, count) in found.items():
        assert dalys == pytest.approx(estimates()[country, code] * 1000)
        assert count == (None if code in reasons else trials[country, code]), (country, code)
    assert sum(count or 0 for _, count in found.values()) > 200
    world = values(
        compared,
        "SELECT cause_code::text, trials_under_way, dalys FROM marts.research_gap_by_cause WHERE year = 2021",
    )
    for code, count, dalys in world:
        assert count == (None if code in reasons else trials["world", code]), code
        assert dalys == pytest.approx(
            sum(rate * 1000 for (_, cause), rate in estimates().items() if cause == code)
        )


def test_an_unknown_cause_is_kept_and_not_compared(compared: PostgresAddress) -> None:
    """A cause of a later release stands in the burden under WHO's title, a year of an earlier release with that release."""
    statement = """
        SELECT cause_code, year, cause_title, is_counted, release, dalys FROM marts.burden_by_country_cause_year
        WHERE cause_code IN (661, 9999) OR year = 2015 ORDER BY 1
    """
    assert values(compared, statement) == [
        (30, 2015, "Tuberculosis", True, "GHE2019", 2e6),
        (661, 2021, "Liver cancer secondary to hepatitis B", False, "GHE2021", 9e9),
        (9999, 2021, "as sent", False, "GHE2021", 9e9),
    ]
    assert values(compared, "SELECT max(dalys) < 9e9 FROM marts.research_gap") == [(True,)]


def test_marts_are_empty_without_the_source(recorded: PostgresAddress) -> None:
    """Where WHO's numbers were never loaded the project builds, and what compares with them has no rows."""
    for mart in ("burden_by_country_cause_year", "research_gap", "research_gap_by_cause"):
        assert values(recorded, f"SELECT count(*) FROM marts.{mart}") == [(0,)]
    [(schemas,)] = values(recorded, "SELECT count(*) FROM pg_namespace WHERE nspname = 'who'")
    assert schemas == 0


def test_the_report_shows_where_burden_has_few_trials(compared: PostgresAddress) -> None:
    """The map has the countries that are estimated, by all their trials; the causes are ten that WHO ranks, fewest trials first."""
    [section] = [section for section in SECTIONS if section.needs_data]
    asked = ask(compared, section.figures)
    assert [answer.missing for answer in asked.values()] == [None, None]
    for answer in asked.values():
        assert answer.rows
        assert all(answer.figure.columns.keys() <= row.keys() for row in answer.rows)
    countries = {row["country"]: row for row in asked["burden_map"].rows}
    assert countries.keys() == {"Brazil", "Germany", "India", "Kenya", "United States"}
    for name, code in (("Kenya", "KEN"), ("Germany", "DEU")):
        dalys = sum(rate * 1000 for (country, _), rate in estimates().items() if country == code)
        assert float(countries[name]["dalys"]) == pytest.approx(dalys, abs=1)
        ratio = countries[name]["trials"] * 1e6 / dalys
        assert float(countries[name]["trials_per_million_dalys"]) == pytest.approx(ratio, abs=0.06)
    trials, reasons = (
        under_way(2021),
        {row["cause_code"] for row in seed("ghe_causes") if row["no_terms_reason"]},
    )
    burden: Counter[str] = Counter()
    for (_, code), rate in estimates().items():
        burden[code] += rate * 1000  # type: ignore[assignment]
    least = sorted(
        (trials["world", code] / dalys, -dalys, causes_of_who()[code]["title"])
        for code, dalys in burden.items()
        if code not in reasons and dalys
    )[:10]
    assert [row["cause"] for row in asked["burden_causes"].rows] == [title for *_, title in least]


def test_printed_queries_on_whos_tables_run(compared: PostgresAddress) -> None:
    """The queries that the page on WHO's numbers prints fit its tables and the marts."""
    page = PAGE.with_name("who.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 2
    for query in queries:
        values(compared, query)


def test_printed_queries_find_something(
    recorded: PostgresAddress, compared: PostgresAddress
) -> None:
    """Each query that the documentation prints finds rows, those on the estimates where these are loaded."""
    own, with_estimates = re.findall(
        r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    for address, block in ((recorded, own), (compared, with_estimates)):
        for query in filter(str.strip, block.split(";")):
            assert values(address, query), query
