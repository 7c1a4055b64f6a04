"""The words and proportions from which studies are generated."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

from ctg_assets.model.fields import enum_values
from ctg_assets.simulator.draws import Weighted

_SENTENCES = 6000


@dataclass(frozen=True)
class MeshTerm:
    """One MeSH term with its ancestors (id, term) and browse branches (abbreviation, name)."""

    id: str
    term: str
    ancestors: tuple[tuple[str, str], ...]
    branches: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Place:
    """A city with its coordinates; `state` is empty where the registry gives none."""

    city: str
    state: str
    country: str
    lat: float
    lon: float


@dataclass(frozen=True)
class Organization:
    """An invented sponsor and its agency class."""

    name: str
    agency_class: str


def _rows(file_name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath(file_name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _pairs(cell: str) -> tuple[tuple[str, str], ...]:
    split = (item.partition("=") for item in cell.split("|") if item)
    return tuple((key, value) for key, _, value in split)


@cache
def mesh_terms(kind: str) -> tuple[MeshTerm, ...]:
    """The MeSH terms of this kind (`condition` or `intervention`), frequent ones first."""
    return tuple(
        MeshTerm(row["id"], row["term"], _pairs(row["ancestors"]), _pairs(row["branches"]))
        for row in _rows("mesh_terms.csv")
        if row["kind"] == kind
    )


@cache
def mesh_terms_by_name(kind: str) -> dict[str, MeshTerm]:
    """The MeSH terms of this kind by their names."""
    return {term.term: term for term in mesh_terms(kind)}


@cache
def places() -> tuple[Place, ...]:
    """The cities in which facilities lie, frequent ones first."""
    return tuple(
        Place(row["city"], row["state"], row["country"], float(row["lat"]), float(row["lon"]))
        for row in _rows("places.csv")
    )


# Shares of the registry's studies (of 593,993, in percent) and, of those, the share whose last update was posted within
# two years: a study that recruits must say so again, or the registry calls its status unknown.
_STATUS_SHARES = {
    "COMPLETED": (54.7, 0.17),
    "UNKNOWN": (15.9, 0.0),
    "RECRUITING": (11.0, 1.0),
    "TERMINATED": (5.7, 0.2),
    "NOT_YET_RECRUITING": (4.9, 1.0),
    "ACTIVE_NOT_RECRUITING": (3.7, 0.95),
    "WITHDRAWN": (2.8, 0.2),
    "ENROLLING_BY_INVITATION": (0.88, 1.0),
    "SUSPENDED": (0.29, 0.8),
    "WITHHELD": (0.165, 0.3),
    "NO_LONGER_AVAILABLE": (0.089, 0.2),
    "AVAILABLE": (0.043, 0.7),
    "APPROVED_FOR_MARKETING": (0.040, 0.2),
    "TEMPORARILY_NOT_AVAILABLE": (0.006, 0.5),
}
FRESH_STATUS = Weighted(
    {status: share * fresh for status, (share, fresh) in _STATUS_SHARES.items()}
)
STALE_STATUS = Weighted(
    {status: share * (1 - fresh) for status, (share, fresh) in _STATUS_SHARES.items()}
)
EXPANDED_ACCESS_STATUSES = (
    "AVAILABLE",
    "NO_LONGER_AVAILABLE",
    "TEMPORARILY_NOT_AVAILABLE",
    "APPROVED_FOR_MARKETING",
)
STUDY_TYPE = Weighted({"INTERVENTIONAL": 76.6, "OBSERVATIONAL": 23.4})
LAST_KNOWN_STATUS = Weighted(
    {
        "RECRUITING": 60,
        "NOT_YET_RECRUITING": 24,
        "ACTIVE_NOT_RECRUITING": 12,
        "ENROLLING_BY_INVITATION": 4,
    }
)
PHASES = Weighted(
    {
        ("NA",): 232.4,
        ("PHASE2",): 75.0,
        ("PHASE1",): 51.0,
        ("PHASE3",): 42.8,
        ("PHASE4",): 35.5,
        ("PHASE1", "PHASE2"): 14.2,
        ("PHASE2", "PHASE3"): 6.7,
        ("EARLY_PHASE1",): 6.4,
    }
)
INTERVENTION_TYPE = Weighted(
    {
        "DRUG": 210.1,
        "OTHER": 122.1,
        "DEVICE": 74.9,
        "BEHAVIORAL": 63.2,
        "PROCEDURE": 59.4,
        "BIOLOGICAL": 29.7,
        "DIAGNOSTIC_TEST": 19.2,
        "DIETARY_SUPPLEMENT": 17.9,
        "RADIATION": 10.6,
        "COMBINATION_PRODUCT": 3.4,
        "GENETIC": 2.9,
    }
)
AGENCY_CLASS = Weighted(
    {
        "OTHER": 425.1,
        "INDUSTRY": 131.1,
        "OTHER_GOV": 15.8,
        "NIH": 11.6,
        "NETWORK": 5.0,
        "FED": 4.9,
        "INDIV": 0.6,
        "UNKNOWN": 0.1,
        "AMBIG": 0.003,
    }
)
SEX = Weighted({"ALL": 85, "FEMALE": 11, "MALE": 4})
# (text, years); the registry writes one unit in the singular.
MINIMUM_AGE = Weighted(
    {
        ("18 Years", 18.0): 65,
        ("40 Years", 40.0): 4,
        ("20 Years", 20.0): 4,
        ("65 Years", 65.0): 3,
        ("12 Years", 12.0): 3,
        ("6 Years", 6.0): 2,
        ("2 Years", 2.0): 2,
        ("1 Year", 1.0): 1,
        ("6 Months", 0.5): 1,
        ("1 Month", 1 / 12): 0.5,
        ("37 Weeks", 37 * 7 / 365.25): 0.4,
        ("1 Day", 1 / 365.25): 0.5,
        ("12 Hours", 12 / 24 / 365.25): 0.3,
        ("30 Minutes", 30 / 1440 / 365.25): 0.2,
        ("0 Days", 0.0): 0.3,
    }
)
MAXIMUM_AGE = Weighted(
    {
        ("75 Years", 75.0): 20,
        ("80 Years", 80.0): 18,
        ("65 Years", 65.0): 18,
        ("70 Years", 70.0): 14,
        ("99 Years", 99.0): 6,
        ("45 Years", 45.0): 6,
        ("17 Years", 17.0): 4,
        ("36 Months", 3.0): 1,
        ("52 Weeks", 52 * 7 / 365.25): 0.5,
        ("28 Days", 28 / 365.25): 1,
        ("72 Hours", 3 / 365.25): 0.5,
        ("90 Minutes", 90 / 1440 / 365.25): 0.2,
    }
)
ENROLLMENTS = (10, 12, 20, 24, 30, 36, 40, 45, 50, 60, 64, 72, 80, 100, 120, 150, 180, 200, 240, 300, 400, 500,
               750, 1000, 1500, 2500, 5000, 12000, 60000)  # fmt: skip
UNKNOWN_ENROLLMENT = 99999999
"""What the registry's studies say when nobody knows how many took part."""

# Invented; checked against no list, so an agreement with anything real is chance.
_STEMS = ("Alderbrook", "Brindlemoor", "Corvane", "Dunmarrow", "Eastwillow", "Fennimoor", "Glasswater", "Hallowmere",
          "Ivoryfield", "Juniper Vale", "Kestrelton", "Lindenshaw", "Marrowgate", "Northquill", "Oakhollow", "Pinecairn",
          "Quillhaven", "Ravensmeade", "Silverdene", "Thornwick", "Umberley", "Vellmont", "Wrenfield", "Yarrowdale",
          "Zephyrine", "Åkerlundby", "Blåfjordnes", "Größental", "Montéclair-sur-Ombre", "Peñaclara")  # fmt: skip
_KINDS = (
    ("University", "OTHER"),
    ("University Hospital", "OTHER"),
    ("Medical Center", "OTHER"),
    ("Research Foundation", "OTHER"),
    ("Cancer Institute", "OTHER"),
    ("Therapeutics, Inc.", "INDUSTRY"),
    ("Pharma AG", "INDUSTRY"),
    ("Biologics Co., Ltd.", "INDUSTRY"),
    ("Ministry of Health", "OTHER_GOV"),
    ("National Institute (NIQ)", "NIH"),
    ("Trials Network", "NETWORK"),
    ("Veterans Department", "FED"),
)
_GIVEN_NAMES = ("Avelin", "Bromir", "Cassiva", "Dorrel", "Elowin", "Fenrika", "Galdor", "Hespera", "Ilvane", "Jorrim",
                "Kalista", "Løvar", "Mirelde", "Nuraya", "Oswinne", "Péroline", "Quorin", "Rúnhild", "Sefira", "Tovalin")  # fmt: skip
_DEGREES = (", MD", ", MD, PhD", ", PhD", "", ", RN", ", MSc")


@cache
def organizations() -> dict[str, tuple[Organization, ...]]:
    """Invented organizations by agency class; every class has some."""
    found: dict[str, list[Organization]] = {}
    for kind, agency_class in _KINDS:
        for stem in _STEMS:
            found.setdefault(agency_class, []).append(Organization(f"{stem} {kind}", agency_class))
    for name in people():
        found.setdefault("INDIV", []).append(Organization(name, "INDIV"))
    for agency_class in ("AMBIG", "UNKNOWN"):
        found[agency_class] = [Organization(f"{stem} Group", agency_class) for stem in _STEMS]
    return {agency_class: tuple(members) for agency_class, members in found.items()}


@cache
def people() -> tuple[str, ...]:
    """Invented names of persons, with degrees."""
    return tuple(
        f"{given} {stem}{_DEGREES[(g * 7 + s) % len(_DEGREES)]}"
        for g, given in enumerate(_GIVEN_NAMES)
        for s, stem in enumerate(_STEMS)
    )


@cache
def facilities() -> tuple[str, ...]:
    """Invented names of the facilities where studies take place."""
    kinds = (
        "Clinic",
        "Hospital",
        "Research Site",
        "Health Center",
        "Institute of Medicine",
        "Investigational Site 017",
    )
    return tuple(f"{stem} {kind}" for kind in kinds for stem in _STEMS)


_OPENINGS = ("The primary objective is", "This study is designed", "Participants will be asked", "It is planned",
             "The investigators aim", "A secondary objective is", "Each site will be trained", "The sponsor intends",
             "Previous work allowed us", "An independent committee is appointed", "Eligible persons are invited",
             "All assessments serve")  # fmt: skip
_ACTIONS = ("to compare", "to assess", "to estimate", "to characterize", "to document", "to confirm", "to explore",
            "to describe", "to monitor", "to evaluate", "to quantify", "to establish")  # fmt: skip
_OBJECTS = ("the safety and tolerability", "the overall response", "changes from baseline", "quality of life",
            "adherence to the assigned regimen", "the dose\u2013response relationship", "plasma concentrations (\u00b5g/mL)",
            "the proportion with a response \u2265 50%", "time to first event", "functional capacity",
            "inflammatory markers", "the rate of rehospitalization", "self-reported symptoms", "cost and feasibility",
            "the incidence of adverse events", "laboratory values outside 5\u201395%")  # fmt: skip
_CONTEXTS = ("in the intention-to-treat population", "over the whole follow-up period", "between both groups",
             "under routine conditions", "at every scheduled visit", "after the run-in phase", "by a blinded assessor",
             "using a validated questionnaire", "with a two-sided alpha of 0.05", "across all sites and regions",
             "with and without rescue medication", "before and after the procedure")  # fmt: skip
_ENDINGS = ("", " as agreed with the ethics committee", " until withdrawal, death or week 52", " (see protocol section 4.2)",
            ", stratified by age and sex", " and at least 30 days thereafter", "; missing values are imputed",
            " \u2014 unless the treating physician decides otherwise", ", *post hoc*", " in \\>= 80% of participants",
            ", as \u201cintent\u201d was defined", " at 37 \u00b0C")  # fmt: skip


@cache
def sentences() -> tuple[str, ...]:
    """Made-up sentences of protocol prose, about 110 characters each, some with marks beyond ASCII."""
    choose = Random(6).choice  # noqa: S311  (a fixed shuffle of words)
    return tuple(
        f"{choose(_OPENINGS)} {choose(_ACTIONS)} {choose(_OBJECTS)} {choose(_CONTEXTS)}{choose(_ENDINGS)}."
        for _ in range(_SENTENCES)
    )


@cache
def prose_pool(count: int) -> tuple[str, ...]:
    """Paragraphs of this many made-up sentences; joining sentences anew for every study is too dear."""
    if count == 1:
        return sentences()
    choices = Random(100 + count).choices  # noqa: S311  (a fixed shuffle of sentences)
    return tuple(" ".join(choices(sentences(), k=count)) for _ in range(_SENTENCES // count))


@cache
def criteria() -> tuple[str, ...]:
    """Made-up eligibility criteria as Markdown list items, about 70 characters each."""
    choose = Random(7).choice  # noqa: S311  (a fixed shuffle of words)
    starts = ("Willing to comply with", "History of", "Documented evidence of", "Current treatment with", "Known allergy to",
              "Able to complete", "Participation within 30 days in", "Uncontrolled", "Laboratory values \\< 1.5 x ULN for",
              "Age \u2265 18 years and")  # fmt: skip
    things = ("all study procedures", "a confirmed diagnosis", "any investigational product", "systemic corticosteroids",
              "the run-in questionnaire", "hepatic or renal impairment", "cardiovascular disease (NYHA III\u2013IV)",
              "written informed consent", "pregnancy or breast-feeding", "any excipient of the study drug",
              "an ECOG performance status of 0\u20131", "an interventional study")  # fmt: skip
    return tuple(
        f"* {choose(starts)} {choose(things)}, {choose(_CONTEXTS)}" for _ in range(_SENTENCES // 4)
    )


MEASURES = ("Change in pain score", "Overall survival", "Progression-free survival", "Incidence of adverse events",
            "Change in HbA1c", "Quality of life (SF-36)", "Maximum concentration (C\u2098\u2090\u2093)", "6-minute walk distance",
            "Rate of complete remission", "Length of stay", "Number of hospital admissions", "Mean arterial pressure",
            "Proportion of responders", "Time to symptom relief", "Body mass index", "Adherence (pill count)",
            "Hospital Anxiety and Depression Scale", "Forced expiratory volume in 1 s", "Wound healing rate",
            "Serum ferritin", "Cost per participant", "Cognitive function", "Sleep efficiency", "Relapse rate")  # fmt: skip
TIME_FRAMES = ("12 weeks", "Baseline, 24 weeks", "1 year", "Day 1 to Day 29", "Up to 5 years", "through study completion, an average of 1 year",
               "30 minutes after dosing", "6 months", "From enrollment to week 52", "2 years")  # fmt: skip
ARM_LABELS = ("Experimental Arm", "Placebo", "Low Dose", "High Dose", "Standard of Care", "Control Group", "Cohort A",
              "Cohort B", "Intervention Group", "Sham Procedure", "Usual Care", "Part 2: Open Label")  # fmt: skip
KEYWORDS = ("randomized", "safety", "quality of life", "pilot", "rehabilitation", "biomarker", "telehealth", "children",
            "elderly", "outcome", "prevention", "screening", "exercise", "diet", "immunotherapy", "imaging")  # fmt: skip
TITLES = ("Principal Investigator", "Professor", "Associate Professor", "Assistant Professor", "Head of Department",
          "Clinical Lead")  # fmt: skip


@cache
def enum(type_name: str) -> Weighted[str]:
    """All values of one of the registry's enumerations, the earlier ones drawn somewhat more often."""
    values = [item.value for item in enum_values()[type_name]]
    return Weighted({value: 1 / (place + 2) for place, value in enumerate(values)})
