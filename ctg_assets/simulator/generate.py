"""Generated studies: deterministic, cheap, structurally complete, of realistic skew.

Generated studies are about as large as the registry's (18 KB on average, median 10 KB, the largest of
600,000 has 2 MB) and compress about as well (a thousand with zstd: 9 to 1, real ones 8 to 1).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from ctg_assets.simulator import identity, vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.outline import Outline, outline
from ctg_assets.simulator.sections.cohorts import COHORTS, cohort
from ctg_assets.simulator.sections.parts import Json, post_date, present, prose
from ctg_assets.simulator.sections.protocol import protocol_section
from ctg_assets.simulator.sections.results import results_section
from ctg_assets.simulator.vocabulary import enum

# What a study of this status becomes when it moves on.
_NEXT_STATUS = {
    "NOT_YET_RECRUITING": "RECRUITING",
    "RECRUITING": "ACTIVE_NOT_RECRUITING",
    "ENROLLING_BY_INVITATION": "ACTIVE_NOT_RECRUITING",
    "ACTIVE_NOT_RECRUITING": "COMPLETED",
    "SUSPENDED": "RECRUITING",
    "AVAILABLE": "NO_LONGER_AVAILABLE",
}


def study_json(
    seed: int, index: int, revision: int = 0, data_day: int = identity.FIRST_DATA_DAY
) -> bytes:
    """The JSON of generated study `index`: UTF-8, compact, on one line; keys in field tree order.

    It depends on the arguments only. Revision r > 0 is the study as changed r days after FIRST_DATA_DAY.
    `data_day` (an ordinal) is the registry's day, which every study bears as `versionHolder`; it is
    taken to be the day of the revision where that is later. Raises IndexError as `identity.nct_id` does.
    """
    facts = outline(seed, index)
    people = cohort(facts.draw.below(COHORTS)) if facts.results_post else None
    protocol = protocol_section(
        facts, people.labels if people else (), people.total if people else None
    )
    if revision:
        _revise(protocol, facts, revision)
    study = {
        "protocolSection": protocol,
        "resultsSection": results_section(facts, people) if people else None,
        "annotationSection": _annotations(facts),
        "documentSection": _documents(facts),
        "derivedSection": _derived(
            facts, protocol, max(data_day, identity.FIRST_DATA_DAY + revision)
        ),
        "hasResults": people is not None,
    }
    return msgspec.json.encode(present(study))


def study(
    seed: int, index: int, revision: int = 0, data_day: int = identity.FIRST_DATA_DAY
) -> dict[str, Any]:
    """Generated study `index` as `study_json` writes it, decoded."""
    return cast("dict[str, Any]", msgspec.json.decode(study_json(seed, index, revision, data_day)))


def _revise(protocol: Json, facts: Outline, revision: int) -> None:
    """Change the protocol section as sponsors' updates up to that revision would; always at least its text.

    A withheld study only gets new dates.
    """
    # The same draws for every revision, so that a status once reached is kept by later revisions.
    draw = Draw(identity.mix(facts.seed, facts.index, 6))
    posted = identity.last_update_post_day(facts.seed, facts.index, revision)
    status = protocol["statusModule"]
    if "statusVerifiedDate" in status:
        status["statusVerifiedDate"] = iso(posted - 2)[:7]
    status["lastUpdateSubmitDate"] = iso(posted - 2)
    status["lastUpdatePostDateStruct"] = post_date(posted)
    if facts.study_type is None:
        return
    moved_on = identity.FIRST_DATA_DAY + draw.between(1, 4)
    following = _NEXT_STATUS.get(facts.status)
    if following and posted >= moved_on:
        status["overallStatus"] = following
        status.pop("whyStopped", None)
        if following == "COMPLETED":
            ended = {"date": iso(moved_on - 2), "type": "ACTUAL"}
            status["primaryCompletionDateStruct"] = status["completionDateStruct"] = ended
    enrollment = protocol["designModule"].get("enrollmentInfo")
    grows_by = draw.between(1, 20)
    if enrollment and draw.random() < 0.4:
        enrollment["count"] += revision * grows_by
    description = protocol["descriptionModule"]
    description["briefSummary"] += f" Update {revision}: {prose(draw, 1)}"


def _annotations(facts: Outline) -> Json | None:
    """Results that were submitted but not posted, and violations that a regulator found."""
    draw = facts.draw
    if facts.study_type != "INTERVENTIONAL" or not facts.is_done:
        return None
    unposted = None
    if not facts.results_post and draw.maybe(0.03):
        submitted = max(facts.first_submit, facts.completion)
        unposted = {
            "unpostedResponsibleParty": draw.pick(vocabulary.people()),
            "unpostedEvents": [
                {"type": "RELEASE", "date": iso(submitted)},
                {"type": "RESET", "date": iso(submitted + 40)},
                {"type": "UNRELEASE", "dateUnknown": True},
            ][: 3 if draw.maybe(0.1) else 2],
        }
    violation = None
    if draw.maybe(0.001):
        found = max(facts.completion, facts.first_post)
        violation = {
            "violationEvents": [
                {
                    "type": type_,
                    "description": prose(draw, 1),
                    "creationDate": iso(found + 30 * step),
                    "issuedDate": iso(found + 30 * step - 5),
                    "releaseDate": iso(found + 30 * step - 2),
                    "postedDate": iso(found + 30 * step + 1),
                }
                for step, type_ in enumerate(draw.several(enum("ViolationEventType").values, 2))
            ]
        }
    if unposted is None and violation is None:
        return None
    module = {"unpostedAnnotation": unposted, "violationAnnotation": violation}
    return {"annotationModule": present(module)}


def _documents(facts: Outline) -> Json | None:
    draw = facts.draw
    if facts.study_type is None or not draw.maybe(0.5 if facts.results_post else 0.02):
        return None
    day = max(facts.first_submit, facts.last_update - 90)
    kinds = (
        ("Prot_SAP", "Study Protocol and Statistical Analysis Plan", True, True, False),
        ("ICF", "Informed Consent Form", False, False, True),
        ("Prot", "Study Protocol", True, False, False),
        ("SAP", "Statistical Analysis Plan", False, True, False),
    )
    documents = [
        {
            "typeAbbrev": abbreviation,
            "hasProtocol": protocol,
            "hasSap": plan,
            "hasIcf": consent,
            "label": label,
            "date": iso(day - draw.below(400)),
            "uploadDate": f"{iso(day)}T{draw.below(24):02d}:{draw.below(60):02d}",
            "filename": f"{abbreviation}_{place:03d}.pdf",
            "size": draw.between(40_000, 9_000_000),
        }
        for place, (abbreviation, label, protocol, plan, consent) in enumerate(
            draw.several(kinds, 3)
        )
    ]
    module = {"noSap": True if draw.maybe(0.01) else None, "largeDocs": documents}
    return {"largeDocumentModule": present(module)}


def _derived(facts: Outline, protocol: Json, data_day: int) -> Json:
    draw = facts.draw
    misc: Json = {"versionHolder": iso(data_day)}
    if facts.study_type is None:
        return {"miscInfoModule": misc}
    if draw.maybe(0.04):
        countries = {place.country for place in draw.run(vocabulary.places(), draw.between(1, 4))}
        misc["removedCountries"] = sorted(countries)
    if facts.is_done and draw.maybe(0.03):
        misc["submissionTracking"] = _submissions(facts)
    # The registry finds its terms in what the sponsor wrote; here they are found by name.
    written = [
        name.removesuffix(", Recurrent") for name in protocol["conditionsModule"]["conditions"]
    ]
    used = [item["name"] for item in protocol["armsInterventionsModule"]["interventions"]]
    derived = {
        "miscInfoModule": misc,
        "conditionBrowseModule": _browse(draw, "condition", written) if draw.maybe(0.85) else None,
        "interventionBrowseModule": _browse(draw, "intervention", used)
        if draw.maybe(0.5)
        else None,
    }
    return present(derived)


def _submissions(facts: Outline) -> Json:
    draw = facts.draw
    released = max(facts.first_submit, facts.completion)
    infos = [
        present(
            {
                "releaseDate": iso(released + 120 * step),
                "unreleaseDate": iso(released + 120 * step + 20) if draw.maybe(0.05) else None,
                "unreleaseDateUnknown": True if draw.maybe(0.05) else None,
                "resetDate": iso(released + 120 * step + 45) if draw.maybe(0.8) else None,
                "mcpReleaseN": draw.between(1, 9) if draw.maybe(0.2) else None,
            }
        )
        for step in range(draw.between(1, 3))
    ]
    return present(
        {
            "estimatedResultsFirstSubmitDate": iso(released),
            "firstMcpInfo": {"postDateStruct": post_date(released + 30)}
            if draw.maybe(0.5)
            else None,
            "submissionInfos": infos,
        }
    )


def _browse(draw: Draw, kind: str, names: list[str]) -> Json | None:
    by_name = vocabulary.mesh_terms_by_name(kind)
    terms = [by_name[name] for name in names if name in by_name]
    if not terms:
        return None
    ancestors = {ancestor: None for term in terms for ancestor in term.ancestors}
    module: Json = {
        "meshes": [{"id": term.id, "term": term.term} for term in terms],
        "ancestors": [{"id": id_, "term": term} for id_, term in ancestors] or None,
    }
    # The registry dropped leaves and branches in 2025, but studies recorded before still have them.
    if draw.maybe(0.15):
        relevance = enum("BrowseLeafRelevance")
        module["browseLeaves"] = [
            present(
                {
                    "id": f"M{int(term.id[1:]) % 100_000}",
                    "name": term.term,
                    "asFound": term.term if draw.maybe(0.7) else None,
                    "relevance": draw.weighted(relevance),
                }
            )
            for term in terms
        ]
        branches = {branch: None for term in terms for branch in term.branches}
        module["browseBranches"] = [
            {"abbrev": abbreviation, "name": name} for abbreviation, name in branches
        ]
    return present(module)
