"""Pre-commit's hooks and `make lint` are one list."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]


@pytest.mark.process
def test_the_hooks_are_what_make_lint_runs() -> None:
    """Each command of `make lint` is the entry of a local hook, in the same order, and there is no other."""
    # A dry run with the environment taken for ready: the recipe's commands and nothing else.
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--assume-old=.venv/.ready-dev", "lint"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    config = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    [repository] = config["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == done.stdout.splitlines()
    assert {(hook["language"], hook["pass_filenames"]) for hook in hooks} == {("system", False)}
