"""The image as it is run: read-only, as a user without rights, killed, and gone on. `scripts/check-image` starts this.

That builds the image, and runs this file as root in namespaces of its own (network, processes, mounts). A container
here is the image's root file system mounted read-only, with the volume, a tmpfs on /tmp and few devices, and the
command, environment, user and working directory that image and compose.yaml say. Control groups, and what else
only a container engine does, are not tested.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from ctg_assets_tests.deploy.composed import DEPLOY, services
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.postgres.debian_server import programs

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif("IMAGE_ROOT" not in os.environ, reason="scripts/check-image runs this"),
]

PASSWORDS = {"DATABASE_PASSWORD": "of-the-tables", "DAGSTER_DATABASE_PASSWORD": "of-dagster"}
REGISTRY = "http://127.0.0.1:8765/api/v2"
STUDIES, PAGE_SIZE = 120, 10
SETTINGS = {
    "CTG_API_URL": REGISTRY,
    "CTG_PAGE_SIZE": str(PAGE_SIZE),
    "CTG_REQUESTS_PER_MINUTE": "10000",
    "CTG_MARTS": "dim_study",
    "CTG_AACT": "false",
}
PATIENCE = 900

# Makes the container's view of the machine, and becomes its first process.
_ENTER = """
set -eu
root=$1 data=$2 access=$3 host=$4 hosts=$5 user=$6; shift 6
mount --make-rprivate /
mount --bind "$root" "$root"
[ -e "$root/etc/hosts" ] || touch "$root/etc/hosts"
mount --bind "$hosts" "$root/etc/hosts"
mount --bind "$data" "$root/data"
[ "$access" = rw ] || mount -o remount,bind,ro "$root/data"
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=2g,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom; do
    touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm"; mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
mount -o remount,bind,ro "$root"
hostname "$host"
exec chroot --userspec="$user" "$root" /usr/bin/env --chdir=/data \\
    /usr/bin/setpriv --no-new-privs --inh-caps=-all "$@"
"""


class Image:
    """The image: where its files are, and what it says of itself."""

    def __init__(self) -> None:
        self.root = Path(os.environ["IMAGE_ROOT"])
        said = json.loads(Path(os.environ["IMAGE_CONFIG"]).read_text(encoding="utf-8"))
        self.config: dict[str, Any] = said["Docker"]["config"]
        self.environment = dict(each.split("=", 1) for each in self.config["Env"])


@pytest.fixture(scope="module")
def image() -> Image:
    """The image that was built."""
    return Image()


class Machine:
    """What the containers share: a volume, names of hosts."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image = image
        self.folder = folder
        self.data = folder / "data"
        shutil.copytree(image.root / "data", self.data)
        os.chown(self.data, 10001, 10001)
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost postgres code-server\n")

    @contextmanager
    def container(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        name: str,
        host: str = "somebody",
        access: str = "rw",
        data: Path | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run the image; what it prints goes to a file named after it. It is gone when the block ends."""
        log = self.folder / f"{name}.log"
        variables = {**self.image.environment, **environment}
        with log.open("ab") as file:
            process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"),
                    *(
                        "sh",
                        "-c",
                        _ENTER,
                        "-",
                        str(self.image.root),
                        str(data or self.data),
                        access,
                    ),
                    *(host, str(self.hosts), self.image.config["User"]),
                    *self.image.config["Entrypoint"],
                    *words,
                ],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            kill(process)

    def service(self, name: str) -> Any:
        """Run a service of compose.yaml, with settings for the simulated registry."""
        said = services(PASSWORDS)[name]
        [volume] = said["volumes"]
        settings = SETTINGS if "env_file" in said else {}
        return self.container(
            said["command"],
            {**settings, **said["environment"]},
            name=name,
            host=said.get("hostname", "somebody"),
            access="ro" if volume.endswith(":ro") else "rw",
        )

    def run(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run one command to its end in a container like the code server; its exit code and what it printed."""
        name = f"one-off-{words[0]}"
        (self.folder / f"{name}.log").unlink(missing_ok=True)
        said = services(PASSWORDS)["code-server"]["environment"]
        with self.container(words, {**SETTINGS, **said, **environment}, name=name) as process:
            code = process.wait(PATIENCE)
        return code, self.said(name)

    def said(self, name: str) -> str:
        """What a container printed."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9` a container with all its processes."""
    if process.poll() is None:
        # The first process of its namespace dies with unshare, and all others with that.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def inside(process: subprocess.Popen[bytes], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command within a running container, as Docker does for a health check."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if not children:
        return subprocess.CompletedProcess(words, 1, "", "the container has not started yet")
    [first] = children
    return subprocess.run(
        [
            *(
                "nsenter",
                "--target",
                first,
                "--mount",
                "--pid",
                "--uts",
                "--root",
                "--setuid=10001",
            ),
            *words,
        ],
        env={"PATH": "/usr/local/bin:/opt/ctg-assets/bin:/usr/bin:/bin", "HOME": "/tmp"},
        capture_output=True,
        text=True,
        check=False,
    )


def answer(url: str, body: object = None) -> tuple[int, Any]:
    """Status and content of a page; 0 where nobody listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[None]:
    """Debian's Postgres where compose.yaml has one, prepared as the image of Postgres prepares it."""
    cluster = Path("/var/tmp") / f"ctg-image-{os.getpid()}"
    cluster.mkdir()
    shutil.chown(cluster, "postgres", "postgres")
    password = tmp_path / "password"
    password.write_text(PASSWORDS["DATABASE_PASSWORD"])
    password.chmod(0o644)
    tmp_path.chmod(0o755)
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    bin_ = programs()
    try:
        with password.open() as file:
            subprocess.run(
                [*as_postgres, bin_ / "initdb", "-D", cluster, "-U", "ctg", "-A", "scram-sha-256", "-E", "UTF8",
                 "--locale=C.UTF-8", "--pwfile=/dev/stdin"],
                stdin=file, check=True, stdout=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        said = services(PASSWORDS)["postgres"]
        assert said["command"][0] == "postgres"
        # As compose.yaml has it, but for the memory, which this machine shares.
        options = [each for each in said["command"][1:] if "shared_buffers" not in each]
        server = subprocess.Popen(
            [*as_postgres, bin_ / "postgres", "-D", cluster, "-k", cluster, "-c", "fsync=off", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        owner = f"postgresql://ctg:{PASSWORDS['DATABASE_PASSWORD']}@127.0.0.1:5432"

        def answers() -> bool:
            try:
                psycopg.connect(f"{owner}/postgres").close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until("Postgres", answers, seconds=60)
        with psycopg.connect(f"{owner}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE ctg")
        subprocess.run(
            ["sh", DEPLOY / "postgres" / "10-dagster.sh"],
            env={
                "PATH": f"{bin_}:/usr/bin:/bin",
                "PGHOST": "127.0.0.1",
                "PGPASSWORD": PASSWORDS["DATABASE_PASSWORD"],
                **said["environment"],
            },
            check=True,
        )
        yield
        server.terminate()
        server.wait(60)
    finally:
        shutil.rmtree(cluster, ignore_errors=True)


@pytest.fixture
def machine(image: Image, tmp_path: Path) -> Machine:
    """A machine with a fresh volume."""
    return Machine(image, tmp_path)


@contextmanager
def registry(machine: Machine, latency: float) -> Iterator[None]:
    """A simulated registry, in a container of its own."""
    words = ["ctg-assets", "simulate", "--studies", str(STUDIES), "--latency", str(latency)]
    data = machine.folder / "registry"
    data.mkdir(exist_ok=True)
    os.chown(data, 10001, 10001)
    with machine.container(words, {}, name="registry", data=data):
        wait_until("the registry", lambda: answer(f"{REGISTRY}/version")[0] == 200, seconds=120)
        yield


def test_nothing_but_volume_and_tmp_is_written(machine: Machine) -> None:
    """The user has no rights, and the root file system is read-only."""
    assert machine.image.config["User"] == "10001:10001"
    code, said = machine.run(
        "sh", "-c", "id -u; touch /data/there /tmp/there && echo written; touch /there"
    )
    assert (code, said.splitlines()[:2]) == (1, ["10001", "written"])
    assert "Read-only file system" in said
    assert machine.run("ctg-assets", "--version")[1].startswith("ctg-assets ")


# Held against the configuration of the launcher that Dagster's chart writes from the values.
_LAUNCHER = """
import json, os, sys
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s.launcher import K8sRunLauncher
said = json.loads(os.environ["LAUNCHER"])
outcome = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), said)
sys.exit("; ".join(error.message for error in outcome.errors) if outcome.errors else 0)
"""


def test_kubernetes_launcher_takes_the_values(machine: Machine) -> None:
    """The image has Dagster's launcher for Kubernetes, which takes what deploy/helm/values.yaml says of runs."""
    values = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text(encoding="utf-8"))
    said = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert set(said) == {"imagePullPolicy", "runK8sConfig"}
    runs = said["runK8sConfig"]
    assert set(runs) == {"containerConfig", "jobSpecConfig"}
    launcher: dict[str, Any] = {
        "image_pull_policy": said["imagePullPolicy"],
        "run_k8s_config": {
            "container_config": runs["containerConfig"],
            "job_spec_config": runs["jobSpecConfig"],
        },
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/opt/dagster/dagster_home",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
    }
    code, told = machine.run("python", "-c", _LAUNCHER, LAUNCHER=json.dumps(launcher))
    assert code == 0, told
    launcher["run_k8s_config"]["container_configuration"] = {}
    code, told = machine.run("python", "-c", _LAUNCHER, LAUNCHER=json.dumps(launcher))
    assert code == 1
    assert "container_configuration" in told


def test_one_container_alone(machine: Machine) -> None:
    """With nothing configured a refresh uses the embedded Postgres on the volume, under a read-only root."""
    with registry(machine, 0):
        words = ["ctg-assets", "refresh"]
        with machine.container(
            words, {**SETTINGS, "CTG_MARTS": "all", "CTG_AACT": "true"}, name="alone"
        ) as process:
            assert process.wait(PATIENCE) == 0, machine.said("alone")
    assert "dim_study" in machine.said("alone")
    assert "ctgov" in machine.said("alone")


def test_the_services_of_compose(machine: Machine, postgres: None) -> None:
    """They load what the registry has, though the code server is killed in its midst, and say how it goes.

    The sensor does all of it: nobody runs a command.
    """
    serve, web = "http://127.0.0.1:9187", "http://127.0.0.1:3000"

    def pages() -> int:
        return len([*machine.data.glob("lake/extractions/*/pages/*.parquet")])

    with ExitStack() as stack:
        stack.enter_context(registry(machine, 1.0))
        code_server = stack.enter_context(machine.service("code-server"))
        wait_until(
            "the code server",
            lambda: inside(code_server, "ctg-health").returncode == 0,
            seconds=PATIENCE,
            pause=2,
        )
        serving = stack.enter_context(machine.service("serve"))
        daemon = stack.enter_context(machine.service("daemon"))
        web_server = stack.enter_context(machine.service("web-server"))
        wait_until("serve", lambda: answer(f"{serve}/health")[0] == 200, seconds=PATIENCE, pause=1)
        assert answer(f"{serve}/ready")[0] == 503
        wait_until("some pages", lambda: pages() >= 3, seconds=PATIENCE, pause=0.2)
        kill(code_server)
        there = pages()
        assert there < STUDIES // PAGE_SIZE + 1
        code_server = stack.enter_context(machine.service("code-server"))
        wait_until("ready", lambda: answer(f"{serve}/ready")[0] == 200, seconds=PATIENCE, pause=1)
        wait_until(
            "the web server",
            lambda: answer(f"{web}/server_info")[0] == 200,
            seconds=PATIENCE,
            pause=1,
        )

        def mart() -> int:
            url = services(PASSWORDS)["code-server"]["environment"]["CTG_POSTGRES_URL"]
            with psycopg.connect(url.replace("@postgres:", "@127.0.0.1:")) as connection:
                found = connection.execute("SELECT to_regclass('marts.dim_study')").fetchone()
                if found is None or found[0] is None:
                    return 0
                count = connection.execute("SELECT count(*) FROM marts.dim_study").fetchone()
                return 0 if count is None else int(count[0])

        wait_until("the mart", lambda: mart() == STUDIES, seconds=PATIENCE, pause=2)

        for process in (code_server, serving, web_server):
            done = inside(process, "ctg-health")
            assert done.returncode == 0, done.stderr
        runs = json.loads(
            answer(
                f"{web}/graphql", {"query": "{runsOrError{... on Runs{results{status jobName}}}}"}
            )[1]
        )["data"]["runsOrError"]["results"]
        outcomes = {(run["jobName"], run["status"]) for run in runs}
        assert ("extract_pages", "FAILURE") in outcomes
        assert {("extract_pages", "SUCCESS"), ("build_warehouse", "SUCCESS")} <= outcomes
        refused = json.loads(
            answer(
                f"{web}/graphql",
                {"query": "{permissions{permission value}}"},
            )[1]
        )["data"]["permissions"]
        assert {each["permission"]: each["value"] for each in refused}[
            "launch_pipeline_execution"
        ] is False

        code, said = machine.run("ctg-assets", "status")
        assert code == 0, said
        code, said = machine.run("dagster-daemon", "liveness-check")
        assert code == 0, said
        # A service that is stopped ends in good time, and by itself.
        for process in (serving, daemon, web_server, code_server):
            [first] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(first), signal.SIGTERM)
            process.wait(30)
    # Only what was in flight when it was killed was asked for twice.
    plans = [*machine.data.glob("lake/extractions/*/plan.json")]
    assert len(plans) == 1
