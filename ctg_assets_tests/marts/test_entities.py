"""Countries, organisations, places, investigators and identifiers of the recorded real studies."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.model.tables.calculated import UNITED_STATES
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.simulator.vocabulary import places
from ctg_assets_tests.marts.projects import values
from ctg_assets_tests.model.snapshots import Study, real_studies
from ctg_assets_tests.shared_material import shared_path

ENTITIES = Path(__file__).resolve().parents[2] / "docs" / "entities.md"

# All that the recorded studies have of organisations with several names, looked at one by one.
SEVERAL_NAMES = [
    {"AbbVie", "AbbVie (prior sponsor, Abbott)"},
    {"AstraZeneca", "AstraZeneca K.K."},
    {"Axon Therapies", "Axon Therapies, Inc."},
    {"Big Health Inc.", "Big Health Ltd."},
    {"Biotronik SE & Co. KG", "Biotronik, Inc."},
    {"Cardiac Dimensions Pty Ltd", "Cardiac Dimensions, Inc."},
    {"Celgene", "Celgene Corporation"},
    {"Daiichi Sankyo", "Daiichi Sankyo Co., Ltd."},
    {"Hoffmann-La Roche", "Roche Global Development"},
    {"Iqvia Pty Ltd", "Quintiles, Inc."},
    {
        "Janssen Research & Development, LLC",
        "Johnson & Johnson Pharmaceutical Research & Development, L.L.C.",
    },
    {"KCRI", "KCRI Sp. z o.o."},
    {"Kyowa Kirin Co., Ltd.", "Kyowa Kirin, Inc."},
    {"Labcorp Corporation of America Holdings, Inc", "Laboratory Corporation of America"},
    {"Lin BioScience Pty Ltd", "Lin BioScience, Inc"},
    {"Mesoblast, Inc.", "Mesoblast, Ltd."},
    {"Novartis", "Novartis Pharma AG, Switzerland"},
    {"ResMed", "Resmed Inc"},
    {"Yan'an Hospital of Kunming City", "Yanan Hospital of Kunming City"},
]


def seed(name: str) -> list[dict[str, str]]:
    """The rows of a seed, as its file has them."""
    with (PROJECT_DIR / "seeds" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def normalised(name: str) -> str:
    """A name in small letters with single spaces."""
    return " ".join(name.lower().split())


@cache
def codes_by_name() -> dict[str, str]:
    """The country that each name of the seed stands for."""
    return {normalised(row["country_name"]): row["country_code"] for row in seed("country_names")}


def locations(study: Study) -> list[Study]:
    """The study's list of sites."""
    found: list[Study] = (
        study["protocolSection"].get("contactsLocationsModule", {}).get("locations", [])
    )
    return found


def removed_countries(study: Study) -> list[str]:
    """Countries whose sites were all removed."""
    found: list[str] = (
        study.get("derivedSection", {}).get("miscInfoModule", {}).get("removedCountries", [])
    )
    return found


@pytest.mark.slow
def test_no_name_of_a_country_is_missing() -> None:
    """The seed has each name that studies, the simulator and our own lists of countries have."""
    studies, _ = real_studies()
    named = {place.country for place in places()} | set(UNITED_STATES)
    for study in studies:
        named |= {site["country"] for site in locations(study) if site.get("country")}
        named |= set(removed_countries(study))
    assert len(named) > 100
    assert {name for name in named if normalised(name) not in codes_by_name()} == set()


def test_countries_are_those_of_iso_and_who() -> None:
    """The 249 of ISO 3166-1, three former ones and Kosovo; WHO's regions are those of its own data."""
    countries = {row["country_code"]: row for row in seed("countries")}
    beside_iso = {"ANT", "SCG", "YUG", "XKX"}
    assert beside_iso <= countries.keys()
    current = [row for code, row in countries.items() if code not in beside_iso]
    for column in ("country_code", "alpha2", "numeric_code", "country_name"):
        assert len({row[column] for row in current}) == 249
    assert all(re.fullmatch("[A-Z]{3}", row["country_code"]) for row in current)
    assert all(re.fullmatch("[A-Z]{2}", row["alpha2"]) for row in current)
    assert all(re.fullmatch("[0-9]{3}", row["numeric_code"]) for row in current)
    regions = {}
    for file in ("WSH_10_WAT", "WHOSIS_000001"):
        told = json.loads(gzip.decompress(shared_path(f"gho/{file}.json.gz").read_bytes()))
        for row in told["value"]:
            if row["SpatialDimType"] == "COUNTRY":
                regions[row["SpatialDim"]] = row["ParentLocation"]
    assert len(regions) > 180
    # It moved in May 2025, after these data.
    regions["IDN"] = "Western Pacific"
    assert {code: countries[code]["who_region"] for code in regions} == regions


def test_every_code_of_who_is_a_country() -> None:
    """The seed has the codes of the Global Health Estimates, and WHO's pairs of ISO 3166-1 and M49, whatever their case."""
    countries = {row["country_code"]: row["numeric_code"] for row in seed("countries")}
    estimates = gzip.decompress(shared_path("gho/ghe_sample.csv.gz").read_bytes()).decode()
    coded = {row["DIM_COUNTRY_CODE"] for row in csv.DictReader(estimates.splitlines())}
    assert len(coded) == 183
    assert coded <= countries.keys()
    with shared_path("gho/recorded/ref_geo_wide_excerpt.csv").open(encoding="utf-8") as file:
        pairs = {row["GEO_CODE_ISO_3"].upper(): row["GEO_CODE_M49"] for row in csv.DictReader(file)}
    assert pairs == {code: countries[code] for code in pairs}


def test_a_region_of_before_has_an_end() -> None:
    """A country that has moved says when and from where, and into another region; the move that WHO's own data show is there."""
    moved = {row["country_code"]: row for row in seed("countries") if row["former_who_region"]}
    for row in moved.values():
        assert row["who_region_since"] > "1999"
        assert row["who_region"] not in {"", row["former_who_region"]}
    assert not [
        row
        for row in seed("countries")
        if row["who_region_since"] and row["country_code"] not in moved
    ]
    # The region that data before the move have.
    assert (moved["IDN"]["former_who_region"], moved["IDN"]["who_region_since"]) == (
        "South-East Asia",
        "2025-05-23",
    )


def test_income_groups_are_the_four_of_the_world_bank() -> None:
    """Each country has one of four groups or none; those that the World Bank leaves out are named in the note."""
    groups = Counter(row["income_group"] for row in seed("countries"))
    assert groups.keys() == {"", "Low", "Lower middle", "Upper middle", "High"}
    assert groups["Low"] == 25


def study_countries() -> Iterator[tuple[str, str, int, int, bool]]:
    """Each study and country with its sites, those that recruit, and whether it was removed."""
    for study in real_studies()[0]:
        protocol = study["protocolSection"]
        recruits = protocol["statusModule"].get("overallStatus") == "RECRUITING"
        sites: dict[str, list[bool]] = defaultdict(list)
        for site in locations(study):
            if site.get("country"):
                open_site = site.get("status", "RECRUITING") == "RECRUITING"
                sites[codes_by_name()[normalised(site["country"])]].append(recruits and open_site)
        nct_id = protocol["identificationModule"]["nctId"]
        for code, are_open in sites.items():
            yield nct_id, code, len(are_open), sum(are_open), False
        for code in {codes_by_name()[normalised(name)] for name in removed_countries(study)}:
            if code not in sites:
                yield nct_id, code, 0, 0, True


def test_countries_are_those_of_the_json(recorded: PostgresAddress) -> None:
    """Studies and countries, their sites and which are removed, agree with the raw studies."""
    found = values(
        recorded,
        "SELECT nct_id, country_code, sites, recruiting_sites, is_removed FROM marts.fct_study_country",
    )
    assert sorted(found) == sorted(study_countries())


def test_every_identifier_of_the_json_has_a_row(recorded: PostgresAddress) -> None:
    """Own numbers, former ones, sponsors' and secondary ids are all there, each once for each entry."""
    expected: Counter[tuple[str, str, str, str | None]] = Counter()
    for study in real_studies()[0]:
        module = study["protocolSection"]["identificationModule"]
        nct_id = module["nctId"]
        expected[nct_id, "nct_id", nct_id, None] += 1
        for alias in module.get("nctIdAliases", []):
            expected[nct_id, "nct_alias", alias, None] += 1
        own = module.get("orgStudyIdInfo", {})
        if own:
            expected[nct_id, "org_study_id", own.get("id"), own.get("type")] += 1
        for info in module.get("secondaryIdInfos", []):
            expected[nct_id, "secondary_id", info.get("id"), info.get("type")] += 1
    statement = "SELECT nct_id, id_source, id_value, id_type FROM marts.fct_study_identifier"
    assert Counter(values(recorded, statement)) == expected


def test_types_of_the_registry_agree_with_patterns(recorded: PostgresAddress) -> None:
    """What the registry knows to be EudraCT, CTIS or NIH has that form, but for EU CT numbers of a wrong type."""
    statement = """
        SELECT id_type, register, count(*), count(normalised_id) FROM marts.fct_study_identifier
        WHERE id_type IN ('EUDRACT_NUMBER', 'CTIS', 'NIH') GROUP BY 1, 2 ORDER BY 1, 2
    """
    assert values(recorded, statement) == [
        ("CTIS", "CTIS", 29, 29),
        ("EUDRACT_NUMBER", "CTIS", 4, 4),
        ("EUDRACT_NUMBER", "EudraCT", 214, 214),
        ("NIH", "NIH grant", 231, 231),
    ]


def test_names_are_merged_as_was_reviewed(recorded: PostgresAddress) -> None:
    """Only names that were looked at are one organisation; each study has one that leads it."""
    statement = """
        SELECT array_agg(sponsor_name) FROM marts.bridge_sponsor_organisation
        GROUP BY organisation_key HAVING count(*) > 1
    """
    merged = [set(names) for (names,) in values(recorded, statement)]
    assert sorted(merged, key=min) == sorted(SEVERAL_NAMES, key=min)
    led = sum(
        "leadSponsor" in s["protocolSection"].get("sponsorCollaboratorsModule", {})
        for s in real_studies()[0]
    )
    [(studies_led,)] = values(recorded, "SELECT sum(studies_led) FROM marts.dim_organisation")
    assert studies_led == led


def test_every_investigator_of_the_json_has_a_row(recorded: PostgresAddress) -> None:
    """Overall officials, investigators of sites and responsible parties with a name are all there."""
    expected: Counter[tuple[str, str, str]] = Counter()
    for study in real_studies()[0]:
        protocol = study["protocolSection"]
        nct_id = protocol["identificationModule"]["nctId"]
        for official in protocol.get("contactsLocationsModule", {}).get("overallOfficials", []):
            if official.get("name"):
                expected[nct_id, "overall official", official["name"]] += 1
        for site in locations(study):
            for contact in site.get("contacts", []):
                if contact.get("name") and str(contact.get("role")).endswith(
                    ("INVESTIGATOR", "CHAIR")
                ):
                    expected[nct_id, "site investigator", contact["name"]] += 1
        party = protocol.get("sponsorCollaboratorsModule", {}).get("responsibleParty", {})
        name = party.get("investigatorFullName") or party.get("oldNameTitle")
        if name:
            expected[nct_id, "responsible party", name] += 1
    statement = "SELECT nct_id, named_as, name FROM marts.fct_study_investigator"
    assert Counter(values(recorded, statement)) == expected
    assert sum(expected.values()) > 6_000


def test_places_hold_every_site(recorded: PostgresAddress) -> None:
    """All sites lie in places, and the studies that recruit in some place are those with an open site."""
    studies, _ = real_studies()
    [(sites,)] = values(recorded, "SELECT sum(sites) FROM marts.dim_place")
    assert sites == sum(len(locations(study)) for study in studies)
    boston = sum(
        study["protocolSection"]["statusModule"].get("overallStatus") == "RECRUITING"
        and any(
            site.get("facility") == "Massachusetts General Hospital"
            and site.get("city") == "Boston"
            and site.get("status") == "RECRUITING"
            for site in locations(study)
        )
        for study in studies
    )
    statement = """
        SELECT studies_recruiting FROM marts.dim_place
        WHERE facility_name = 'Massachusetts General Hospital' AND city = 'Boston'
    """
    assert values(recorded, statement) == [(boston,)]


def test_printed_queries_find_something(recorded: PostgresAddress) -> None:
    """Each query that the documentation prints runs, and finds rows in the recorded studies."""
    printed = re.findall(r"```sql\n(.*?)```", ENTITIES.read_text(encoding="utf-8"), re.DOTALL)
    queries = [query for block in printed for query in block.split(";") if query.strip()]
    assert len(queries) >= 6
    for query in queries:
        assert values(recorded, query), query
