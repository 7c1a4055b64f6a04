"""Lint and render the chart under deploy/helm, and write its manifests to a folder: render_chart.py FOLDER.

Dagster's own chart is not part of the repository. What the values for it say of pods is written as manifests, too,
so that it is checked where it ends up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import yaml

HELM = Path(__file__).resolve().parents[1] / "deploy" / "helm"
CHART = HELM / "ctg-assets"
# Helm's least: it recommends an icon.
_INFO = 1
# Everything that can be switched on.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {
        "feed": {"enabled": True, "file": '[[sink]]\nname = "desk"\n'},
        "settings": {"CTG_USER_AGENT": "me (mail@example.org)"},
        "data": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]},
        "nodeSelector": {"disk": "ssd"},
    },
}


def _rendered() -> Iterator[dict[str, Any]]:
    """The manifests of each variant; ends the program where Helm's lint finds anything."""
    for variant, values in VARIANTS.items():
        report = helm_python.lint(str(CHART), values, strict=True, kube_version="v1.30.0")
        if findings := [found for found in report["messages"] if found["severity"] > _INFO]:
            sys.exit(f"helm lint, {variant}: {findings}")
        with helm_python.Chart.load(str(CHART)) as chart:
            for text in chart.render(values, name="test", namespace="ctg").values():
                yield from filter(None, yaml.safe_load_all(text))


def _of_dagsters_chart() -> Iterator[dict[str, Any]]:
    """Deployments with what the values for Dagster's chart say of each pod."""
    values = yaml.safe_load((HELM / "values.yaml").read_text(encoding="utf-8"))
    [code_server] = values["dagster-user-deployments"]["deployments"]
    runs = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    pods = {
        "webserver": values["dagsterWebserver"],
        "daemon": values["dagsterDaemon"],
        "code-server": code_server,
        "run": {**code_server, **runs["containerConfig"]},
    }
    for name, said in pods.items():
        labels = {"app.kubernetes.io/name": name}
        container = {
            "name": name,
            "image": f"{said['image']['repository']}:{said['image']['tag']}",
            "imagePullPolicy": said["image"]["pullPolicy"],
            "envFrom": [{"secretRef": secret} for secret in said.get("envSecrets", [])],
            **{key: said[key] for key in ("securityContext", "resources", "volumeMounts")},
        }
        pod = {
            "securityContext": said["podSecurityContext"],
            "volumes": said["volumes"],
            "containers": [container],
        }
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    yield {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "run"},
        "spec": {
            **runs["jobSpecConfig"],
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "run"}]}},
        },
    }


def main(folder: Path) -> None:
    """Write all manifests to `folder`, one a file."""
    documents: list[dict[str, Any]] = [*_rendered(), *_of_dagsters_chart()]
    for number, document in enumerate(documents):
        (folder / f"{number:02d}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


main(Path(sys.argv[1]))
