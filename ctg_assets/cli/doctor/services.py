"""Postgres and the registry, as they answer now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ctg_assets.cli.doctor.findings import Finding, failed, ok, warning
from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.data_version import ask_data_version
from ctg_assets.feed.errors import FeedError
from ctg_assets.feed.mail import mailbox
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError
from ctg_assets.postgres.ownership import open_notes, require_no_strangers
from ctg_assets.postgres.server import open_postgres
from ctg_assets.setting_values import MailSecurity, StepsBy
from ctg_assets.settings import Settings
from ctg_assets.times import CLOCK_TOLERANCE, parse_data_timestamp

# A load uses nine sessions at most; readers and Dagster want some, too.
_LEAST_CONNECTIONS = 15
_SLOW_CLOCK = timedelta(minutes=5)
_PUBLIC_REGISTRY = Settings.model_fields["api_url"].default
_TOLERATED_PER_MINUTE = Settings.model_fields["requests_per_minute"].default


def look_at_postgres(settings: Settings) -> Iterator[Finding]:
    """Whether it answers, lets us make schemas, has sessions left, and our names are free or ours."""
    if not settings.has_warehouse:
        yield ok("Postgres", "none wanted (CTG_WAREHOUSE)")
        return
    with (
        open_postgres(settings) as address,
        connect(address) as connection,
        postgres_errors(f"looking at {address.public_url}"),
    ):
        unusable = list(_rights(connection, address))
        yield from unusable
        yield from _sessions(connection)
        if unusable:
            return
        with connection.transaction(force_rollback=True):
            open_notes(connection)
            require_no_strangers(connection, address.schemas.of_refresh())
        version = connection.info.parameter_status("server_version") or ""
        kind = "embedded" if settings.postgres_url is None else "configured"
        yield ok("Postgres", f"{kind}, version {version.split()[0]}, at {address.public_url}")


def _rights(connection: Connection, address: PostgresAddress) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT current_user, has_database_privilege(current_database(), 'CREATE'),"
        " pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool"
    ).fetchone()
    assert row is not None  # noqa: S101 - a query without FROM has one row
    user, may_create, is_replica, is_read_only = row
    if is_replica or is_read_only:
        text = f"{address.public_url} only lets read; set CTG_POSTGRES_URL to the primary server"
        yield failed("Postgres", text)
    if not may_create:
        text = (
            f"{user} may not make schemas in {address.dbname}; as its owner: "
            f'GRANT CREATE ON DATABASE "{address.dbname}" TO "{user}"'
        )
        yield failed("Postgres", text)


def _sessions(connection: Connection) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
    ).fetchone()
    assert row is not None  # noqa: S101 - a query without FROM has one row
    if row[0] < _LEAST_CONNECTIONS:
        text = (
            f"{row[0]} more sessions are possible, a load with its readers wants {_LEAST_CONNECTIONS}; raise "
            "max_connections, or end sessions that nobody uses"
        )
        yield warning("Postgres", text)


def look_at_mail(settings: Settings) -> Iterator[Finding]:
    """Whether the mail server lets us in, and the password goes to it encrypted."""
    try:
        box = mailbox(settings)
        if box is None:
            return
        box.look()
    except FeedError as error:
        yield warning("mail", str(error))
        return
    where = f"{box.host}:{box.port}"
    if box.password is not None and box.security is MailSecurity.NONE:
        text = f"{where} is sent the password unencrypted; set CTG_SMTP_SECURITY to starttls or tls"
        yield warning("mail", text)
    else:
        yield ok("mail", f"{where} answers; `ctg-assets notify --test` sends a mail")


def look_at_workers(settings: Settings) -> Iterator[Finding]:
    """Whether the broker lets us in, and a worker answers, if steps are theirs."""
    if settings.executor is not StepsBy.CELERY:
        return
    from ctg_assets.orchestration.celery_steps import BrokerUnavailableError, connected_workers

    try:
        workers = connected_workers(settings)
    except BrokerUnavailableError as error:
        yield warning("workers", str(error))
        return
    if workers:
        yield ok("workers", f"{', '.join(workers)} answer through the broker")
    else:
        text = "none answers through the broker: steps of runs wait until there is one (`ctg-assets worker`)"
        yield warning("workers", text)


def look_at_registry(settings: Settings) -> Iterator[Finding]:
    """Whether it answers as the API does, our clock agrees with its clock, and our pace is tolerated."""
    try:
        version = ask_data_version(settings, retry_seconds=0, only_look=True)
    except CtgAssetsError as error:
        if not isinstance(error.__cause__, ServerUnavailableError | ServerSetupError):
            raise
        # That is a finding already.
        yield ok("registry", "not asked: the limit on requests is kept in Postgres, see there")
        return
    said, now = version.server_time, datetime.now(UTC)
    if said is not None and abs(said - now) > _SLOW_CLOCK:
        text = (
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, the registry's {said:%Y-%m-%d %H:%M}; set the "
            "clock (NTP): times of observation are taken from it"
        )
        yield (failed if abs(said - now) > CLOCK_TOLERANCE else warning)("clock", text)
    else:
        yield ok("clock", "agrees with the registry's")
    if (
        settings.api_url == _PUBLIC_REGISTRY
        and settings.requests_per_minute > _TOLERATED_PER_MINUTE
    ):
        text = (
            f"CTG_REQUESTS_PER_MINUTE={settings.requests_per_minute}; the registry tolerates about "
            f"{_TOLERATED_PER_MINUTE} and then answers 429 or blocks"
        )
        yield warning("registry", text)
    at = parse_data_timestamp(version.data_timestamp)
    text = f"{settings.api_url} answers, API {version.api_version}, data of {at:%Y-%m-%d %H:%M} UTC"
    yield ok("registry", text)
