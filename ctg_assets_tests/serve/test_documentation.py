"""Documentation, rules and dashboard speak of the metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from ctg_assets.metrics import COUNTED, Metric
from ctg_assets.serve.gauges import GAUGES

PROJECT = Path(__file__).resolve().parents[2]
PAGE = (PROJECT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RULES: dict[str, Any] = yaml.safe_load(
    (PROJECT / "deploy" / "prometheus" / "ctg_alerts.yml").read_text(encoding="utf-8")
)
DASHBOARD: dict[str, Any] = json.loads(
    (PROJECT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8")
)

ALERTS = {rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]}
PANELS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
# What Prometheus itself tells of every target.
OF_PROMETHEUS = {"up": {"job", "instance"}}


def exported() -> dict[str, set[str]]:
    """The names of all series, each with its labels."""
    found = dict(OF_PROMETHEUS)
    for metric in (*COUNTED, *GAUGES):
        labels = set(metric.labels)
        if metric.kind == "histogram":
            found |= {
                f"{metric.name}_bucket": labels | {"le"},
                f"{metric.name}_sum": labels,
                f"{metric.name}_count": labels,
            }
        else:
            found[metric.name] = labels
    return found


def selectors(expression: Any) -> Iterator[Any]:
    """All selectors of series in a parsed expression, wherever in it."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
        return
    for name in ("vector_selector", "expr", "lhs", "rhs", "param"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from selectors(inner)
    for argument in getattr(expression, "args", None) or ():
        yield from selectors(argument)


def row(metric: Metric) -> str:
    """The line of a metric in the page's table."""
    labels = ", ".join(f"`{name}`" for name in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


def test_the_page_lists_every_metric_as_it_is_declared() -> None:
    """Name, kind, labels and meaning, of what is counted and of the state, and no other."""
    listed = [line for line in PAGE.splitlines() if re.match(r"\| `(etl|ctg)_", line)]
    assert listed == [row(metric) for metric in (*COUNTED, *GAUGES)]


def test_the_page_says_what_to_do_about_every_alert() -> None:
    """Each alert has a line, in the order of the rules."""
    assert re.findall(r"^\| `(Ctg\w+)` \|", PAGE, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize(
    "expression",
    [
        *(pytest.param(text, id=name) for name, text in ALERTS.items()),
        *(pytest.param(text, id=name) for name, text in PANELS.items()),
    ],
)
def test_expressions_ask_for_what_is_exported(expression: str) -> None:
    """Each expression of a rule or panel parses, and each series in it is told with the labels it is chosen by."""
    known = exported()
    found = list(selectors(promql_parser.parse(expression)))
    assert found
    for selector in found:
        assert selector.name in known
        chosen_by = {matcher.name for matcher in selector.matchers.matchers}
        assert chosen_by <= known[selector.name]


def test_every_selector_is_found() -> None:
    """What looks for the series of an expression finds them in calls, groupings, ranges and on both sides."""
    text = 'topk(3, sum by (a) (rate(b{c="1"}[5m]))) > on () (-d + time()) or (e offset 5m) / (f[1h:5m] and g)'
    text = text.replace("(f[1h:5m] and g)", "(max_over_time(f[1h:5m]) and g)")
    assert sorted(selector.name for selector in selectors(promql_parser.parse(text))) == [
        "b",
        "d",
        "e",
        "f",
        "g",
    ]


def test_every_panel_has_a_place_of_its_own() -> None:
    """Panels have numbers of their own, lie within the 24 columns, and cover nobody."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
