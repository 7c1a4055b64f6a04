"""`ctg-assets doctor` about a lake in an object store: what is in the way is found and told with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctg_assets.cli.doctor.files import look_at_data_folder, look_at_object_store
from ctg_assets.cli.doctor.findings import Finding, Verdict
from ctg_assets.settings import load_settings
from ctg_assets.storage import object_client
from ctg_assets.storage.backend import StorageError
from ctg_assets_tests.support.object_store import SECRET, Fault, S3Server

pytestmark = pytest.mark.process


def looked_at(url: str | None, folder: Path) -> list[Finding]:
    """What is said of a lake at an address."""
    return list(look_at_object_store(load_settings(data_dir=folder, data_url=url)))


def test_all_is_well(s3: S3Server, tmp_path: Path) -> None:
    """The store can do all that is needed, which is told with what lies there; a disk is not asked for it."""
    [finding] = looked_at(s3.new_url(), tmp_path)
    assert finding.verdict is Verdict.OK
    assert "honours conditions; nothing is extracted yet" in finding.text
    assert looked_at(None, tmp_path) == []


def test_the_data_folder_is_looked_at_by_itself(s3: S3Server, tmp_path: Path) -> None:
    """A store that is away does not make the folder bad."""
    settings = load_settings(data_dir=tmp_path, data_url="s3://nowhere/lake")
    [finding] = look_at_data_folder(settings)
    assert finding.verdict is Verdict.OK


def test_a_store_without_conditions(s3: S3Server, tmp_path: Path) -> None:
    """A store that overwrites what was to be new is no place for a lake."""
    s3.set_faults(Fault("PUT", "conditions-", times=9, blind=True))
    [finding] = looked_at(s3.new_url(), tmp_path)
    assert finding.verdict is Verdict.FAILED
    assert "lets a file be created that is there" in finding.text
    assert "Use a store that has conditional writes" in finding.text


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("PUT", "conditions-", "403 Forbidden", times=9), "check the credentials"),
        (Fault("GET", "", "403 Forbidden", times=9), "check the credentials"),
        (Fault("POST", "", "403 Forbidden", times=9), "check the credentials"),
        (Fault("PUT", "", "503 Slow Down", times=9), "try again when it does"),
    ],
    ids=["put", "list", "delete", "busy"],
)
def test_what_is_refused(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    """Each right that is missing is an error with what to do, and none of our secrets in it."""
    monkeypatch.setattr(object_client, "_RETRIES", 0)
    s3.set_faults(fault)
    with pytest.raises(StorageError, match=said) as caught:
        looked_at(s3.new_url(), tmp_path)
    assert SECRET not in str(caught.value)
    assert "canary-access-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "no usable answer"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "AWS_ENDPOINT_URL"),
    ],
    ids=["silent", "nonsense"],
)
def test_a_wrong_endpoint(
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    said: str,
) -> None:
    """Where nobody answers, or no address is, the text says where to look."""
    monkeypatch.setattr(object_client, "_RETRIES", 0)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError, match=said):
        looked_at(s3.new_url(), tmp_path)
