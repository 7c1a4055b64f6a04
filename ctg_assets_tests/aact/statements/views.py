"""Statements that read AACT's views and call its functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ctg_assets_tests.aact.from_json import Named, Registry, Term, at, by_study, items
from ctg_assets_tests.aact.statements.statement import Rows, Statements

STATEMENTS = Statements()
ask = STATEMENTS.ask

Pairs = Iterable[tuple[str, str | None]]


def joined(pairs: Pairs, *, once: bool) -> Rows:
    """One row a study that there is anything of: the texts, no NULLs, each once and sorted where `once`."""
    found: dict[str, list[str]] = {}
    for nct_id, text in pairs:
        texts = found.setdefault(nct_id, [])
        if text is not None:
            texts.append(text)
    return [
        (nct_id, "|".join(sorted(set(texts)) if once else texts)) for nct_id, texts in found.items()
    ]


def _column(rows: Iterable[Any], name: str) -> Pairs:
    return ((row.nct_id, getattr(row, name)) for row in rows)


def _from_json(registry: Registry, path: str, name: str) -> Pairs:
    return (
        (study.nct_id, one.get(name))
        for study in registry.studies
        for one in items(study.json, path)
    )


def _other_ids(registry: Registry) -> Pairs:
    module = "protocolSection.identificationModule"
    for study in registry.studies:
        for alias in items(study.json, f"{module}.nctIdAliases"):
            yield study.nct_id, alias
        own = at(study.json, f"{module}.orgStudyIdInfo")
        for one in [*([own] if own else []), *items(study.json, f"{module}.secondaryIdInfos")]:
            yield study.nct_id, one.get("id")


_OFFICIALS = "protocolSection.contactsLocationsModule.overallOfficials"

ALL_VIEWS: dict[str, tuple[Callable[[Registry], Pairs], bool]] = {
    "all_browse_conditions": (lambda r: _column(r.terms("condition"), "term"), True),
    "all_browse_interventions": (lambda r: _column(r.terms("intervention"), "term"), False),
    "all_cities": (lambda r: _column(r.facilities, "city"), True),
    "all_conditions": (lambda r: _column(r.conditions, "name"), True),
    "all_countries": (
        lambda r: _column([one for one in r.countries if not one.removed], "name"),
        True,
    ),
    "all_design_outcomes": (lambda r: _column(r.planned, "measure"), True),
    "all_facilities": (lambda r: _column(r.facilities, "name"), False),
    "all_group_types": (lambda r: _column(r.groups, "type"), True),
    "all_id_information": (_other_ids, True),
    "all_intervention_types": (lambda r: _column(r.interventions, "type"), False),
    "all_interventions": (lambda r: _column(r.interventions, "name"), False),
    "all_keywords": (lambda r: _column(r.keywords, "name"), True),
    "all_overall_official_affiliations": (
        lambda r: _from_json(r, _OFFICIALS, "affiliation"),
        False,
    ),
    "all_overall_officials": (lambda r: _from_json(r, _OFFICIALS, "name"), False),
    "all_primary_outcome_measures": (
        lambda r: _column([one for one in r.planned if one.type == "primary"], "measure"),
        True,
    ),
    "all_secondary_outcome_measures": (
        lambda r: _column([one for one in r.planned if one.type == "secondary"], "measure"),
        True,
    ),
    "all_sponsors": (lambda r: _column(r.sponsors, "name"), True),
    "all_states": (lambda r: _column(r.facilities, "state"), True),
}
"""What each view puts together, and whether each text comes once."""


def _ask_view(view: str, pairs: Callable[[Registry], Pairs], *, once: bool) -> None:
    def answer(registry: Registry) -> Rows:
        return joined(pairs(registry), once=once)

    answer.__name__ = view
    ask(f"SELECT nct_id, names FROM {view}", "all_* views")(answer)


for _view, (_pairs, _once) in ALL_VIEWS.items():
    _ask_view(_view, _pairs, once=_once)


def _names(registry: Registry, view: str) -> dict[str, str]:
    pairs, once = ALL_VIEWS[view]
    return dict(joined(pairs(registry), once=once))


@ask(
    """
    SELECT s.nct_id, ac.names AS conditions, ai.names AS interventions FROM studies s
    LEFT JOIN all_conditions ac ON ac.nct_id = s.nct_id
    LEFT JOIN all_interventions ai ON ai.nct_id = s.nct_id
    WHERE ac.names LIKE '%|%|%' AND s.phase = 'PHASE4'
    """,
    "all_* views",
    "LIKE",
    "join on nct_id",
)
def studies_with_all_their_names(registry: Registry) -> Rows:
    """Two of the views joined to studies."""
    conditions, interventions = (
        _names(registry, view) for view in ("all_conditions", "all_interventions")
    )
    return [
        (study.nct_id, conditions[study.nct_id], interventions.get(study.nct_id))
        for study in registry.studies
        if study.phase == "PHASE4" and conditions.get(study.nct_id, "").count("|") >= 2
    ]


def _with(text: str, rows: Iterable[Named | Term], name: str) -> set[str]:
    return {row.nct_id for row in rows if text in getattr(row, name).lower()}


@ask("SELECT * FROM ids_for_term('%Insulin%')", "functions")
def ids_for_a_term(registry: Registry) -> Rows:
    """Studies by MeSH term, title or keyword, each of which finds some alone; the caller puts the percent signs."""
    text = "insulin"
    titles = {study.nct_id for study in registry.studies if text in study.brief_title.lower()}
    found = titles | _with(text, registry.keywords, "name")
    for kind in ("condition", "intervention"):
        found |= _with(text, registry.terms(kind), "term")
    return [(nct_id,) for nct_id in found]


@ask(
    "SELECT count(*) FROM studies WHERE nct_id IN (SELECT ids_for_org('%MA%'))",
    "functions",
)
def ids_for_an_organization(registry: Registry) -> Rows:
    """Studies by whatever organization or place they name; of each kind there are some that no other finds."""
    text = "ma"
    found: set[str] = set()
    for site in registry.facilities:
        if any(
            text in (one or "").lower() for one in (site.name, site.city, site.state, site.country)
        ):
            found.add(site.nct_id)
    found |= {one.nct_id for one in registry.sponsors if text in one.name.lower()}
    for path in (
        "protocolSection.sponsorCollaboratorsModule.responsibleParty.investigatorAffiliation",
        "resultsSection.moreInfoModule.pointOfContact.organization",
    ):
        found |= {s.nct_id for s in registry.studies if text in (at(s.json, path) or "").lower()}
    return [(len(found),)]


@ask(
    """
    SELECT nct_id, title, recruitment, conditions, interventions, age, sponsors, number_of_facilities
    FROM study_summaries_for_condition('%headache%')
    """,
    "functions",
)
def summaries_for_a_condition(registry: Registry) -> Rows:
    """A row for each study and each of its terms, conditions or keywords that match."""
    text = "headache"
    terms = {
        (one.nct_id, one.term) for one in registry.terms("condition") if text in one.term.lower()
    }
    named = {
        (one.nct_id, one.name)
        for one in (*registry.conditions, *registry.keywords)
        if text in one.name.lower()
    }
    interventions, sponsors = (
        _names(registry, view) for view in ("all_interventions", "all_sponsors")
    )
    sites = by_study(registry.facilities)
    return [
        (
            nct_id,
            registry.by_id[nct_id].brief_title,
            registry.by_id[nct_id].status,
            term,
            interventions.get(nct_id),
            " to ".join(
                registry.eligibility(nct_id, f"{end}Age") or "" for end in ("minimum", "maximum")
            ),
            sponsors.get(nct_id),
            len(sites.get(nct_id, [])),
        )
        for nct_id, term in terms | named
    ]


@ask("SELECT count_estimate('SELECT 1 FROM studies') = count(*) FROM studies", "functions")
def estimate_of_rows(registry: Registry) -> Rows:
    """The planner knows how many rows a table has that was just made."""
    return [(True,)]


def _on_covid(registry: Registry) -> list[str]:
    return [study.nct_id for study in registry.studies if "COVID-19" in study.brief_title]


@ask("SELECT nct_id, name, \"grouping\" FROM categories WHERE name = 'covid-19'", "saved searches")
def categories_of_a_saved_search(registry: Registry) -> Rows:
    """search_results under another name; the fixture says that the search finds what the title says."""
    return [(nct_id, "covid-19", "covid") for nct_id in _on_covid(registry)]


@ask(
    """
    SELECT c.nct_id, c.overall_status, c.lead_sponsor, c.number_of_facilities, c.keywords,
        c.interventions, c.conditions, c.design_outcomes, c.other_ids, c.brief_summary, c.gender
    FROM covid_19_studies c
    """,
    "saved searches",
)
def studies_on_covid(registry: Registry) -> Rows:
    """A row for each study that the saved search found."""
    views = (
        "all_keywords",
        "all_interventions",
        "all_conditions",
        "all_design_outcomes",
        "all_id_information",
    )
    names = [_names(registry, view) for view in views]
    sites = by_study(registry.facilities)
    return [
        (
            nct_id,
            registry.by_id[nct_id].status,
            registry.leads[nct_id].name,
            len(sites.get(nct_id, [])),
            *(found.get(nct_id) for found in names),
            at(registry.by_id[nct_id].json, "protocolSection.descriptionModule.briefSummary"),
            registry.eligibility(nct_id, "sex"),
        )
        for nct_id in _on_covid(registry)
    ]
