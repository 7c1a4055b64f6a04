"""Metrics: what each is called and means, and the way in which work is counted.

What is counted while it happens is declared here, because any stage may count; what is read from the state
of things is declared by the service that reads it (`serve/gauges.py`). The page docs/monitoring.md has all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Increment:
    """So much more of one series: a metric with a value for each of its labels."""

    name: str
    labels: tuple[tuple[str, str], ...]
    amount: float


@dataclass(frozen=True)
class Metric:
    """A metric: its name, what it is, and the names of its labels.

    It is a counter if its name ends in `_total`, a histogram if it has `buckets` (upper bounds), else a
    gauge. `always` are series of a counter that are told although nothing was counted yet, as zero: of a
    series that begins with its first event, Prometheus does not see that event as an increase.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    always: tuple[Labels, ...] = field(default=(), hash=False)

    @property
    def kind(self) -> str:
        """`counter`, `histogram` or `gauge`."""
        if self.buckets:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"

    def by(self, amount: float, **labels: str) -> Increment:
        """So much more of a counter."""
        return Increment(self.name, self._in_order(labels), amount)

    def observed(self, value: float, **labels: str) -> tuple[Increment, ...]:
        """One more value of a histogram: in the one bucket that it falls into, and in the sum."""
        own = self._in_order(labels)
        bound = next((bound for bound in self.buckets if value <= bound), None)
        return (
            Increment(f"{self.name}_bucket", (*own, ("le", spelled_bound(bound))), 1),
            Increment(f"{self.name}_sum", own, value),
        )

    def _in_order(self, labels: Labels) -> tuple[tuple[str, str], ...]:
        if labels.keys() != set(self.labels):
            message = f"{self.name} has the labels {self.labels}, not {sorted(labels)}"
            raise ValueError(message)
        return tuple((name, labels[name]) for name in self.labels)


def spelled_bound(bound: float | None) -> str:
    """The upper bound of a bucket as Prometheus spells it; None for the last one."""
    return "+Inf" if bound is None else f"{bound:g}"


class Counters(Protocol):
    """Whoever counts. Counting never fails, and never stops the work."""

    def add(self, *increments: Increment) -> None:
        """Count all of these at once."""


class _NoCounters:
    def add(self, *increments: Increment) -> None:
        """Count nothing."""


NO_COUNTERS: Counters = _NoCounters()

ENDPOINTS = ("/studies", "/studies/enums", "/studies/metadata", "/version")
"""The registry's endpoints that we ask; a redirect to anything else counts as `other`."""

REQUESTS = Metric(
    "etl_api_requests_total",
    "Requests sent to the registry, counted just before each is sent, retries and redirects included.",
    ("endpoint",),
    always=tuple({"endpoint": endpoint} for endpoint in ("/studies", "/version")),
)
REQUESTS_FAILED = Metric(
    "etl_api_requests_failed_total",
    "Requests to the registry that brought nothing usable. Reason: the HTTP status, if another than 200; "
    "unusable (200 with HTML, or JSON that is broken, cut off or of another shape); or no answer.",
    ("endpoint", "reason"),
    always=tuple(
        {"endpoint": endpoint, "reason": reason}
        for endpoint in ("/studies", "/version")
        for reason in ("429", "500", "502", "503", "504", "unusable", "no answer")
    ),
)
REQUEST_SECONDS = Metric(
    "etl_api_request_duration_seconds",
    "Seconds from sending a request to the registry (after waiting for the limit) until its answer was read "
    "or it had failed. What was killed meanwhile is not in its count; a redirected request is in it once.",
    ("endpoint",),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300),
)
RECORDS = Metric(
    "etl_records_processed_total",
    "Studies that went through a stage: extract (are in a page shard or a file's), transform (were typed, or "
    "put into quarantine), load (the rows of so many studies were loaded).",
    ("stage",),
    always=tuple({"stage": stage} for stage in ("extract", "transform", "load")),
)
TRANSFORMATION_ERRORS = Metric(
    "etl_transformation_errors_total",
    "Studies that could not be typed and were put into quarantine, each time that a snapshot typed them.",
    always=({},),
)
SAVED = Metric(
    "etl_data_saved_total",
    "Rows that committed loads put into the tables of a schema (staging, ctgov).",
    ("schema",),
    always=tuple({"schema": schema} for schema in ("staging", "ctgov")),
)
WRITES = Metric(
    "etl_database_writes_total",
    "Loads of a schema that were committed: whole tables (full), or the rows of changed studies (delta); of "
    "marts, the dbt models, views and seeds that were built (model).",
    ("schema", "kind"),
    always=(
        {"schema": "staging", "kind": "full"},
        {"schema": "staging", "kind": "delta"},
        {"schema": "ctgov", "kind": "full"},
        {"schema": "ctgov", "kind": "delta"},
        {"schema": "marts", "kind": "model"},
    ),
)
WRITE_ERRORS = Metric(
    "etl_database_write_errors_total",
    "Loads of a schema, and builds of the marts, that failed; what they would have changed stayed as it was.",
    ("schema",),
    always=tuple({"schema": schema} for schema in ("staging", "ctgov", "marts")),
)

COUNTED = (
    REQUESTS,
    REQUESTS_FAILED,
    REQUEST_SECONDS,
    RECORDS,
    TRANSFORMATION_ERRORS,
    SAVED,
    WRITES,
    WRITE_ERRORS,
)
"""Everything that is counted, in the order of the flow."""
