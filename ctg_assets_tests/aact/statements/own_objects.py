"""Statements that make things of people's own, rely on places of columns, or copy rows out."""

from __future__ import annotations

from ctg_assets_tests.aact.from_json import Registry
from ctg_assets_tests.aact.statements.statement import Rows, Statements

STATEMENTS = Statements()
ask = STATEMENTS.ask


def _withdrawn(registry: Registry) -> set[str]:
    return {study.nct_id for study in registry.studies if study.status == "WITHDRAWN"}


@ask(
    """
    CREATE TEMP TABLE withdrawn AS SELECT nct_id, why_stopped FROM studies WHERE overall_status = 'WITHDRAWN';
    CREATE INDEX ON withdrawn (nct_id);
    SELECT w.nct_id, w.why_stopped, c.name FROM withdrawn w LEFT JOIN conditions c USING (nct_id)
    """,
    "temporary table",
    "join on nct_id",
)
def temporary_table(registry: Registry) -> Rows:
    """Conditions with a table of the session's own."""
    withdrawn = _withdrawn(registry)
    return [
        (one.nct_id, registry.by_id[one.nct_id].why_stopped, one.name)
        for one in registry.conditions
        if one.nct_id in withdrawn
    ]


@ask(
    """
    CREATE TEMPORARY VIEW trials AS SELECT nct_id FROM studies WHERE study_type = 'INTERVENTIONAL';
    SELECT count(*) FROM trials JOIN interventions USING (nct_id)
    """,
    "temporary view",
)
def temporary_view(registry: Registry) -> Rows:
    """A view of the session's own."""
    kinds = [registry.by_id[one.nct_id].study_type for one in registry.interventions]
    return [(kinds.count("INTERVENTIONAL"),)]


@ask(
    """
    CREATE VIEW ctgov.my_trials AS SELECT nct_id, overall_status FROM ctgov.studies;
    SELECT count(*) FROM my_trials WHERE overall_status = 'WITHDRAWN'
    """,
    "view in ctgov",
    as_owner=True,
)
def view_in_the_schema(registry: Registry) -> Rows:
    """A view in schema ctgov, of a role that may make some."""
    return [(len(_withdrawn(registry)),)]


@ask(
    """
    CREATE MATERIALIZED VIEW ctgov.sponsor_counts AS
        SELECT name, count(*) AS n FROM sponsors GROUP BY name;
    CREATE UNIQUE INDEX ON ctgov.sponsor_counts (name);
    REFRESH MATERIALIZED VIEW sponsor_counts;
    SELECT matviewname, ispopulated, (SELECT sum(n) FROM sponsor_counts)
    FROM pg_matviews WHERE schemaname = 'ctgov'
    """,
    "materialized view in ctgov",
    "pg_matviews",
    as_owner=True,
)
def materialized_view_in_the_schema(registry: Registry) -> Rows:
    """A materialized view in schema ctgov, which the catalog then lists."""
    return [("sponsor_counts", True, len(registry.sponsors))]


@ask(
    """
    CREATE TABLE ctgov.first_conditions AS
        SELECT DISTINCT ON (nct_id) nct_id, name FROM conditions ORDER BY nct_id, id;
    SELECT count(*) FROM first_conditions
    """,
    "table in ctgov",
    "first by lowest id",
    as_owner=True,
)
def table_in_the_schema(registry: Registry) -> Rows:
    """A table in schema ctgov."""
    return [(len({one.nct_id for one in registry.conditions}),)]


@ask(
    """
    CREATE TEMP TABLE mine (id bigint, study varchar, sponsor_class varchar, role varchar, called varchar);
    INSERT INTO mine SELECT * FROM sponsors;
    SELECT study, sponsor_class, role, called FROM mine
    """,
    "INSERT by position",
    "SELECT *",
    "temporary table",
)
def inserted_by_position(registry: Registry) -> Rows:
    """Columns come in AACT's order and are no more than AACT's."""
    return [(one.nct_id, one.agency_class, one.role, one.name) for one in registry.sponsors]


@ask(
    """
    SELECT nct_id, name FROM (SELECT * FROM conditions UNION ALL SELECT * FROM keywords) AS words
    WHERE downcase_name LIKE '%statin%'
    """,
    "UNION by position",
    "SELECT *",
)
def union_by_position(registry: Registry) -> Rows:
    """Two tables of the same columns put together."""
    return [
        (one.nct_id, one.name)
        for one in (*registry.conditions, *registry.keywords)
        if "statin" in one.name.lower()
    ]


@ask("SELECT * FROM countries WHERE removed AND name LIKE 'C%'", "SELECT *", "countries.removed")
def whole_rows(registry: Registry) -> Rows:
    """All columns by their places; of the id only that there is one."""
    return [
        ("id", one.nct_id, one.name, True)
        for one in registry.countries
        if one.removed and one.name.startswith("C")
    ]


@ask(
    "SELECT S.NCT_ID, S.Overall_Status FROM CtGov.Studies S WHERE S.Phase = 'EARLY_PHASE1'",
    "mixed-case identifiers",
)
def mixed_case(registry: Registry) -> Rows:
    """Names in any case, without quotes."""
    return [
        (study.nct_id, study.status) for study in registry.studies if study.phase == "EARLY_PHASE1"
    ]


@ask(
    "SELECT count(*) FROM aact.ctgov.studies JOIN aact.ctgov.interventions USING (nct_id)",
    "database named",
)
def database_named(registry: Registry) -> Rows:
    """The database's name before the schema's, in a database called aact."""
    return [(len(registry.interventions),)]


def _csv(rows: list[tuple[str, ...]]) -> Rows:
    return [(",".join(row),) for row in rows]


@ask(
    """
    COPY (SELECT nct_id, overall_status, study_type FROM studies WHERE phase = 'PHASE3' ORDER BY nct_id)
    TO STDOUT WITH (FORMAT csv, HEADER)
    """,
    "COPY",
    ordered=True,
)
def copy_of_a_query(registry: Registry) -> Rows:
    """Rows as CSV with a header."""
    rows = [
        (study.nct_id, study.status, study.study_type or "")
        for study in registry.studies
        if study.phase == "PHASE3"
    ]
    return _csv([("nct_id", "overall_status", "study_type"), *rows])


@ask("COPY countries (nct_id, removed) TO STDOUT WITH CSV", "COPY")
def copy_of_a_table(registry: Registry) -> Rows:
    """A table as CSV, which cannot be had of a view."""
    return _csv([(one.nct_id, "t" if one.removed else "f") for one in registry.countries])


@ask(
    """
    DECLARE trials CURSOR FOR SELECT nct_id FROM studies ORDER BY nct_id;
    MOVE FORWARD 100 IN trials;
    FETCH FORWARD 3 FROM trials
    """,
    "SELECT *",
    ordered=True,
)
def cursor_of_the_server(registry: Registry) -> Rows:
    """Rows in portions, as drivers fetch many."""
    return [(study.nct_id,) for study in registry.studies[100:103]]
