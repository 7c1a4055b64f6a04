"""One study as a page of HTML, with the timeline of its history."""

from __future__ import annotations

from datetime import datetime

from ctg_assets.report.markup import definitions, element, folded, table, text, whole_page
from ctg_assets.report.study_card import Change, StudyCard, StudyVersion
from ctg_assets.report.study_words import details, headline, is_end


def study_page(card: StudyCard, made_at: datetime) -> str:
    """The whole page."""
    said = f"{card.nct_id}: {card.state}"
    if card.asked:
        said += f"; {card.asked} is an alias of it"
    header = element(
        "header", element("h1", text(card.title)) + element("p", text(said), class_="quiet")
    )
    facts = element("section", element("h2", "The study") + definitions(card.facts, class_="facts"))
    timeline = element(
        "section",
        element("h2", "What changed when")
        + element(
            "p", "Newest first; times are those of the registry's data (UTC).", class_="quiet"
        )
        + element(
            "ol", "".join(map(_entry, reversed(card.changes))), class_="timeline", reversed=""
        ),
    )
    versions = element(
        "section",
        element("h2", "Versions")
        + table(
            {
                "number": "Version",
                "valid_from": "First observed (UTC)",
                "valid_to": "Until (UTC)",
                "ended_by": "Ended by",
                "posted": "Last update posted",
            },
            [_version(version) for version in card.versions],
            "Versions of the study",
        ),
    )
    footer = element(
        "footer",
        f"Made by <code>ctg-assets study {text(card.nct_id)}</code> on {made_at:%Y-%m-%d %H:%M} UTC.",
    )
    return whole_page(
        f"{card.nct_id} · {card.title}",
        header + element("main", facts + timeline + versions) + footer,
    )


def _entry(change: Change) -> str:
    when = element(
        "time", f"{change.observed_at:%Y-%m-%d}", datetime=change.observed_at.isoformat()
    )
    lines = list(details(change))
    told = element("ul", "".join(element("li", text(line)) for line in lines)) if lines else ""
    fields = element(
        "ul", "".join(element("li", element("code", text(path))) for path in change.fields)
    )
    more = folded("Changed fields", fields) if change.fields else ""
    attributes = {"class_": "gone"} if is_end(change) else {}
    return element("li", f"{when} {text(headline(change))}{told}{more}", **attributes)


def _version(version: StudyVersion) -> dict[str, object]:
    return {
        "number": str(version.number),
        "valid_from": version.valid_from,
        "valid_to": version.valid_to or "now",
        "ended_by": version.ended_by or "",
        "posted": version.last_update_post_date,
    }
