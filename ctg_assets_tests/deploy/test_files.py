"""The files under deploy/ agree with one another, with the settings, and with the commands they name."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from dagster._cli import create_dagster_cli
from dagster._core.instance.config import dagster_instance_config
from dagster._core.workspace.config_schema import process_workspace_config
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import create_dagster_webserver_cli

from ctg_assets import __version__
from ctg_assets.cli.app import app
from ctg_assets.settings import ENV_PREFIX, Settings, load_settings
from ctg_assets.settings_file import FILE_VARIABLE
from ctg_assets_tests.deploy.composed import DEPLOY, PROJECT, VARIABLE, compose_text, services

DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
PAGE = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ROLES = ("code-server", "web-server", "daemon", "serve")
GIVEN = {"DATABASE_PASSWORD": "one", "DAGSTER_DATABASE_PASSWORD": "two", "BROKER_PASSWORD": "three"}


def _texts() -> Iterator[tuple[str, str]]:
    yield "docs/deployment.md", PAGE
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(PROJECT)), path.read_text(encoding="utf-8")


def _yaml(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


def _pinned() -> dict[str, str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(line.split("==") for line in project["dependencies"] if "==" in line)


# --- settings and other variables -----------------------------------------------------------------


def test_every_variable_of_ours_is_a_setting() -> None:
    """A variable CTG_… that a file or the page names is one that we read."""
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {FILE_VARIABLE}
    named = {
        (variable, where)
        for where, text in _texts()
        for variable in re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]+\b", text)
    }
    assert len(named) > 10
    assert sorted(pair for pair in named if pair[0] not in known) == []


def test_the_example_has_what_compose_asks_for() -> None:
    """Each variable that compose.yaml puts in stands in example.env, and no other does."""
    example = (DEPLOY / "example.env").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?(\w+)=", example, re.MULTILINE)) == {
        match["name"] for match in VARIABLE.finditer(compose_text())
    }


def test_each_service_has_the_secrets_that_it_needs() -> None:
    """What people see from outside knows neither the tables' password nor that of Postgres' owner."""
    having = {
        name: {
            variable
            for variable, value in service["environment"].items()
            if isinstance(value, str) and re.search(r"\b(one|two|three)\b", value)
        }
        for name, service in services(GIVEN).items()
    }
    assert having == {
        "postgres": {"POSTGRES_PASSWORD", "DAGSTER_DATABASE_PASSWORD"},
        "broker": {"RABBITMQ_DEFAULT_PASS"},
        "code-server": {"CTG_POSTGRES_URL", "DAGSTER_POSTGRES_URL", "CTG_BROKER_URL"},
        "worker": {"CTG_POSTGRES_URL", "DAGSTER_POSTGRES_URL", "CTG_BROKER_URL"},
        "serve": {"CTG_POSTGRES_URL", "DAGSTER_POSTGRES_URL"},
        "web-server": {"DAGSTER_POSTGRES_URL"},
        "daemon": {"DAGSTER_POSTGRES_URL"},
        "feed": {"CTG_POSTGRES_URL"},
    }


def test_steps_go_to_workers_when_the_example_says_so() -> None:
    """Runs are started, and steps done, with the same executor, broker and tables; a run's own process does all otherwise."""
    for given, executor in (({}, "in_process"), ({"EXECUTOR": "celery"}, "celery")):
        there = services({**GIVEN, **given})
        starts, works = (
            {
                name: value
                for name, value in there[service]["environment"].items()
                if name.startswith(ENV_PREFIX)
            }
            for service in ("code-server", "worker")
        )
        assert starts == works
        settings = load_settings(
            executor=starts["CTG_EXECUTOR"], broker_url=starts["CTG_BROKER_URL"]
        )
        assert settings.executor == executor
        assert settings.broker_url == "amqp://ctg:three@broker:5672/ctg"
    broker = there["broker"]["environment"]
    assert [broker[f"RABBITMQ_DEFAULT_{name}"] for name in ("USER", "PASS", "VHOST")] == [
        "ctg",
        "three",
        "ctg",
    ]
    assert there["broker"]["profiles"] == there["worker"]["profiles"] == ["workers"]


def test_secrets_are_kept_out_of_git() -> None:
    """The files that are copied from the examples are ignored."""
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/deploy/.env", "/deploy/ctg.env"} <= set(ignored)


# --- Dagster's own files --------------------------------------------------------------------------


def _without_storage(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "storage"}


def test_dagster_works_as_in_the_repository_but_for_its_storage() -> None:
    """deploy/dagster.yaml differs from dagster.yaml in where runs are kept, and Dagster takes it."""
    here = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    there = _yaml("dagster.yaml")
    assert _without_storage(there) == _without_storage(here)
    assert there["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    settings, _ = dagster_instance_config(str(DEPLOY))
    assert settings["storage"]


def test_the_chart_of_dagster_is_given_the_same() -> None:
    """Limits, monitoring, retention and loggers of the values for Dagster's chart are those of dagster.yaml."""
    instance, values = _yaml("dagster.yaml"), _yaml("helm/values.yaml")
    pools, runs = instance["concurrency"]["pools"], instance["concurrency"]["runs"]
    assert values["concurrency"] == {
        "enabled": True,
        "pools": {"defaultLimit": pools["default_limit"], "granularity": pools["granularity"]},
        "runs": {"maxConcurrentRuns": runs["max_concurrent_runs"]},
    }
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    assert monitoring["maxRuntimeSeconds"] == instance["run_monitoring"]["max_runtime_seconds"]
    assert (
        monitoring["freeSlotsAfterRunEndSeconds"]
        == instance["run_monitoring"]["free_slots_after_run_end_seconds"]
    )
    purged = instance["retention"]["sensor"]["purge_after_days"]
    assert values["retention"]["sensor"]["purgeAfterDays"] == purged
    assert values["pythonLogs"]["managedPythonLoggers"] == ["ctg_assets"]
    handlers = instance["python_logs"]["dagster_handler_config"]
    assert values["pythonLogs"]["dagsterHandlerConfig"] == handlers
    kept = values["additionalInstanceConfig"]["local_artifact_storage"]
    assert kept == instance["local_artifact_storage"]
    logs = values["computeLogManager"]["config"]["customComputeLogManager"]
    assert logs == instance["compute_logs"]
    assert values["telemetry"] == instance["telemetry"]


def test_the_workspace_leads_to_the_code_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster takes workspace.yaml, and its port is the code server's."""
    monkeypatch.setenv("DAGSTER_CODE_HOST", "code-server")
    workspace = _yaml("workspace.yaml")
    assert process_workspace_config(workspace).success
    [target] = workspace["load_from"]
    assert target["grpc_server"]["port"] == 4000
    assert target["grpc_server"]["host"] == {"env": "DAGSTER_CODE_HOST"}


# --- the image ------------------------------------------------------------------------------------

# What Debian's releases have as python3.
_PYTHON_OF = {"bookworm": "3.11", "trixie": "3.13"}


def test_the_image_has_a_python_that_the_lock_is_for() -> None:
    """The base's Python is one that the package takes, and the one that versions are locked for."""
    match = re.search(r"^ARG BASE=debian:(\w+)-slim$", DOCKERFILE, re.MULTILINE)
    assert match is not None
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert f"--python-version {_PYTHON_OF[match[1]]}" in makefile
    assert f"debootstrap --variant=minbase {match[1]}" in (
        PROJECT / "scripts" / "check-image"
    ).read_text(encoding="utf-8")


def _copied() -> list[str]:
    lines = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()]


def test_what_the_image_is_made_from_is_there_and_nothing_else_is_sent() -> None:
    """Each file that the Dockerfile copies exists, and .dockerignore lets these through and no other."""
    sources = _copied()
    assert "ctg_assets" in sources
    assert [source for source in sources if not (PROJECT / source).exists()] == []
    rules = [
        line
        for line in (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(sources)


def _locked(name: str) -> dict[str, str]:
    text = (PROJECT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE))


def test_the_image_has_what_users_have() -> None:
    """The image has every version of requirements.txt (`make lock`), and beside these only what runs on Kubernetes need."""
    image, users = _locked("requirements-image.txt"), _locked("requirements.txt")
    assert len(users) > 100
    assert {name: image.get(name) for name in users} == users
    assert image["dagster-k8s"] == users["dagster-postgres"]
    assert len(image) - len(users) < 20


def test_versions_are_those_of_the_package() -> None:
    """Charts and values name the release, and the chart of Dagster's release that is pinned."""
    chart, values = _yaml("helm/ctg-assets/Chart.yaml"), _yaml("helm/values.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert values["dagsterWebserver"]["image"]["tag"] == __version__
    dagster = _pinned()["dagster"]
    assert f"`dagster/dagster` {dagster}:" in (DEPLOY / "helm/values.yaml").read_text()
    assert f"dagster/dagster --version {dagster} " in PAGE


def test_the_user_is_the_same_everywhere() -> None:
    """The image's user is the one that Kubernetes is told to run as."""
    [user] = set(re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE))
    named = {
        *re.findall(r"--[ug]id (\d+)", DOCKERFILE),
        *(
            number
            for where, text in _texts()
            for number in re.findall(r"(?:runAsUser|runAsGroup|fsGroup): (\d+)|user (\d+)", text)
            for number in number
            if number
        ),
    }
    assert named == {user}


# --- ports ----------------------------------------------------------------------------------------

PORTS = {"web-server": 3000, "code-server": 4000, "serve": 9187}


def test_ports_are_the_same_everywhere() -> None:
    """What a role listens on is what is exposed, published, asked for its health, and proxied to."""
    [exposed] = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert sorted(map(int, exposed.split())) == sorted(PORTS.values())
    health = (DEPLOY / "docker" / "ctg-health").read_text(encoding="utf-8")
    assert set(map(int, re.findall(r"127\.0\.0\.1:(\d+)", health))) == set(PORTS.values())
    for name, service in services(GIVEN).items():
        for published in service.get("ports", []):
            address, _, port = published.rpartition(":")
            assert address == f"127.0.0.1:{PORTS[name]}"
            assert int(port) == PORTS[name]
    proxy = (DEPLOY / "nginx" / "ctg-assets.conf").read_text(encoding="utf-8")
    proxied = set(map(int, re.findall(r"proxy_pass http://127\.0\.0\.1:(\d+);", proxy)))
    assert proxied == {PORTS["web-server"], PORTS["serve"]}
    values = _yaml("helm/values.yaml")
    [deployment] = values["dagster-user-deployments"]["deployments"]
    assert deployment["port"] == PORTS["code-server"]
    assert _yaml("helm/ctg-assets/values.yaml")["serve"]["port"] == PORTS["serve"]
    for name, port in PORTS.items():
        assert re.search(rf"^\| {name.replace('-', ' ')} \|[^|]*\| {port}\b", PAGE, re.MULTILINE)


def test_the_proxy_keeps_logins_to_itself() -> None:
    """Whatever is behind it gets no password that a person or Prometheus sends to the proxy."""
    proxy = (DEPLOY / "nginx" / "ctg-assets.conf").read_text(encoding="utf-8")
    locations = re.findall(r"^    location [^{]*\{(.*?)^    \}", proxy, re.MULTILINE | re.DOTALL)
    assert len(locations) == proxy.count("proxy_pass") > 2
    assert all('proxy_set_header Authorization "";' in each for each in locations)


# --- commands -------------------------------------------------------------------------------------


def _parse(command: Any, arguments: Sequence[str], parent: Any = None) -> None:
    """Parse a command line as the command itself would, without running it; click's, or Typer's copy of click."""
    context = command.make_context(command.name, [*arguments], parent=parent)
    if hasattr(command, "resolve_command"):
        _, chosen, remaining = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        _parse(chosen, remaining, context)


def _require_real(words: Sequence[str]) -> None:
    """Fail unless the words are a command line of ours or of Dagster's that parses."""
    programs: dict[str, Callable[[], Any]] = {
        "ctg-assets": lambda: typer.main.get_command(app),
        "dagster": create_dagster_cli,
        "dagster-daemon": create_dagster_daemon_cli,
        "dagster-webserver": create_dagster_webserver_cli,
    }
    try:
        _parse(programs[Path(words[0]).name](), words[1:])
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        pytest.fail(f"{' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(
    "words",
    [
        ["ctg-assets", "serv"],
        ["ctg-assets", "feed", "walk"],
        ["ctg-assets", "status", "--nonsense"],
        ["dagster", "api", "grpc", "--nonsense"],
        ["dagster-daemon", "health"],
        ["dagster-webserver", "--read-only=yes"],
    ],
)
def test_a_command_that_is_none_is_told(words: list[str]) -> None:
    """What the tests below go by does fail."""
    with pytest.raises(pytest.fail.Exception):
        _require_real(words)


def _started(role: str, stubs: Path) -> list[str]:
    """What the image's entry point runs for a role, told by programs that only say how they were called."""
    for program in ("dagster", "dagster-daemon", "dagster-webserver", "ctg-assets"):
        stub = stubs / program
        stub.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n')
        stub.chmod(0o755)
    done = subprocess.run(
        [DEPLOY / "docker" / "ctg-role", role],
        env={"PATH": f"{stubs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.process
@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_a_real_command(role: str, tmp_path: Path) -> None:
    """The entry point runs a command that exists, with options that it has, on the role's port."""
    words = _started(role, tmp_path)
    if role in PORTS:
        assert words[words.index("--port") + 1] == str(PORTS[role])
    words = [word.replace("/etc/ctg-assets", str(DEPLOY)) for word in words]
    _require_real(words)
    assert ("--read-only" in words) == (role == "web-server")


def test_each_service_of_compose_does_something_real() -> None:
    """Each service's command and health check is a role, or a command that parses; all that are ours are confined."""
    for name, service in services(GIVEN).items():
        assert service["restart"] == "unless-stopped"
        if name in {"postgres", "broker"}:
            continue
        command = service["command"]
        if command not in [[role] for role in ROLES]:
            _require_real(command)
        if "healthcheck" in service:
            assert service["healthcheck"]["test"][0] == "CMD"
            _require_real(service["healthcheck"]["test"][1:])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_each_unit_starts_what_the_image_starts(unit: Path) -> None:
    """A unit runs a command that parses, on this machine's own address, and may write to its folder alone."""
    text = unit.read_text(encoding="utf-8")
    [line] = re.findall(r"^ExecStart=/opt/ctg-assets/bin/(.+)$", text, re.MULTILINE)
    words = line.replace("/etc/ctg-assets", str(DEPLOY)).split()
    _require_real(words)
    if "--host" in words:
        assert words[words.index("--host") + 1] == "127.0.0.1"
        role = unit.stem.removeprefix("ctg-assets-")
        assert words[words.index("--port") + 1] == str(PORTS[role])
    for rule in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "User=ctg-assets",
        "CapabilityBoundingSet=\n",
    ):
        assert rule in text
    assert "ReadWritePaths" not in text


# --- CI -------------------------------------------------------------------------------------------


def test_ci_runs_what_is_there() -> None:
    """The workflow runs .ci/run, and at night targets of the Makefile; it names no package index."""
    text = (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    ran = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ran == ["bash .ci/run", "make ${{ matrix.target }}"]
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for target in jobs["nightly"]["strategy"]["matrix"]["target"]:
        assert f"\n{target}:" in makefile
    assert not re.search(r"https?://|index", text)


def test_named_files_are_there() -> None:
    """Files of the repository that the page names lie there, and every file of deploy/ is for something named."""
    named = set(re.findall(r"`?\b(deploy/[\w./-]+\w)", PAGE))
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []
    for child in DEPLOY.iterdir():
        if child.name.startswith(".") or child.name == "ctg.env":
            continue
        assert any(path.startswith(f"deploy/{child.name}") for path in named) or child.name in PAGE
