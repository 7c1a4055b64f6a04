"""What `verify_release` finds: damage to any file, wrong counts, keys and references, and who signed."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.release.manifest import (
    NoReleaseError,
    ReleaseManifest,
    newest_release,
)
from ctg_assets.release.signing import SigningKeyError, read_private_key, read_public_key
from ctg_assets.release.verification import verify_release
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import record_bytes
from ctg_assets_tests.release.released import ReleasedLake, few_studies

pytestmark = pytest.mark.slow

KEY = Ed25519PrivateKey.from_private_bytes(b"a key of tests alone, 32 bytes !"[:32])
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> ReleasedLake:
    """A lake with a signed release in the folder `releases` beside it."""
    lake = ReleasedLake(tmp_path_factory.mktemp("signed"))
    lake.walk(1, few_studies())
    lake.release(Storage.local(lake.folder / "releases"), key=KEY)
    return lake


@pytest.fixture
def folder(signed: ReleasedLake, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(signed.folder / "releases", tmp_path / "releases"))


def _manifest(folder: Path) -> ReleaseManifest:
    manifest = newest_release(Storage.local(folder))
    assert manifest is not None
    return manifest


def _where(folder: Path, **how: object) -> set[str]:
    found = verify_release(Storage.local(folder), **how)  # type: ignore[arg-type]
    return {finding.where for finding in found.findings}


def _flip(path: Path) -> None:
    content = path.read_bytes()
    at = len(content) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])


def test_a_flipped_bit_is_found_in_every_file(folder: Path) -> None:
    """Each damaged file is named, and no other; without a manifest nothing can be told of what it names."""
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"
    ]
    assert len(files) > 80
    manifests = [path for path in files if path.name == "manifest.json"]
    for path in manifests:
        _flip(path)
        assert path.relative_to(folder).as_posix() in _where(folder)
        _flip(path)
    assert _where(folder) == set()
    for path in files:
        if path not in manifests:
            _flip(path)
    names = {path.relative_to(folder).as_posix() for path in files if path not in manifests}
    assert _where(folder) == names


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
def test_a_lost_or_shortened_file_is_named(folder: Path, harm: Callable[[Path], object]) -> None:
    """A file of a table, of the documents, and the signature."""
    manifest = _manifest(folder)
    paths = [manifest.tables[3].files[0].path, manifest.documents[0].path]
    paths.append(f"releases/{manifest.name}/manifest.json.sig")
    for path in paths:
        harm(folder / path)
    assert _where(folder) == set(paths)


def test_the_signature_is_by_whose_key(folder: Path) -> None:
    """The key beside it, or the one given."""
    found = verify_release(Storage.local(folder))
    assert found.signed_by is not None
    assert found.findings == []
    assert _where(folder, public_key=KEY.public_key()) == set()
    [signature] = folder.rglob("manifest.json.sig")
    [public] = folder.rglob("manifest.pub")
    assert _where(folder, public_key=OTHER_KEY.public_key()) == {
        signature.relative_to(folder).as_posix()
    }
    assert read_public_key(public) == KEY.public_key()


def test_a_release_without_the_signature_that_is_wanted(
    signed: ReleasedLake, tmp_path: Path
) -> None:
    """Without a key nobody signs, which is damage only for who asks for a signature."""
    place = Storage.local(tmp_path / "unsigned")
    name = signed.release(place).manifest.name
    assert verify_release(place).findings == []
    assert verify_release(place).signed_by is None
    assert _where(tmp_path / "unsigned", public_key=KEY.public_key()) == {
        f"releases/{name}/manifest.json.sig"
    }


@pytest.mark.parametrize("content", [b"no key at all", None])
def test_keys_that_cannot_be_used(content: bytes | None, tmp_path: Path) -> None:
    """The error names the file and says how to make a key."""
    path = tmp_path / "release.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SigningKeyError, match=r"release\.pem.*openssl genpkey -algorithm ed25519"):
        read_private_key(path)
    with pytest.raises(SigningKeyError, match=r"release\.pem"):
        read_public_key(path)


def _forge(folder: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> str:
    """Change the first file of a table, and the manifest with it, as a wrong program would; returns its path."""
    manifest = _manifest(folder)
    tables = []
    for each in manifest.tables:
        if each.name == table:
            first = each.files[0]
            rows = change(pq.read_table(folder / first.path))
            pq.write_table(rows, folder / first.path)
            content = (folder / first.path).read_bytes()
            forged = msgspec.structs.replace(
                first,
                rows=rows.num_rows,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
            files = [forged, *each.files[1:]]
            each = msgspec.structs.replace(  # noqa: PLW2901
                each, files=files, rows=sum(file.rows for file in files)
            )
        tables.append(each)
    changed = msgspec.structs.replace(manifest, tables=tables)
    (folder / f"releases/{manifest.name}/manifest.json").write_bytes(record_bytes(changed))
    (folder / f"releases/{manifest.name}/manifest.json.sig").write_bytes(
        KEY.sign(record_bytes(changed))
    )
    return first.path


def test_a_key_that_is_there_twice(folder: Path) -> None:
    """A row is repeated."""
    path = _forge(folder, "conditions", lambda rows: pa.concat_tables([rows.slice(0, 1), rows]))
    assert _where(folder) == {path}


def test_rows_that_are_out_of_order(folder: Path) -> None:
    """Two rows change places."""
    path = _forge(folder, "conditions", lambda rows: rows.take(pa.array([1, 0])))
    assert path in _where(folder)


def test_a_reference_that_leads_nowhere(folder: Path) -> None:
    """A study is gone, and its conditions and all else of it are still there; the census tells it, too."""
    _forge(folder, "studies", lambda rows: rows.slice(1))
    where = _where(folder)
    assert {"staging.conditions", "staging.studies"} <= where
    assert not any(place.startswith("tables/") for place in where)


def test_a_type_that_is_another(folder: Path) -> None:
    """A column of whole numbers has become one of text."""
    at = "position"
    path = _forge(
        folder,
        "conditions",
        lambda rows: rows.set_column(
            rows.schema.get_field_index(at), at, rows[at].cast(pa.string())
        ),
    )
    assert _where(folder) == {path}


def test_a_folder_without_a_release(tmp_path: Path, folder: Path) -> None:
    """There is nothing to check, or not the release asked for."""
    with pytest.raises(NoReleaseError, match="no release in"):
        verify_release(Storage.local(tmp_path / "nothing"))
    with pytest.raises(NoReleaseError, match="no release 000009-2026-11-01"):
        verify_release(Storage.local(folder), name="000009-2026-11-01")


@pytest.mark.process
def test_the_commands(
    signed: ReleasedLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`release` signs and says what it made, `verify` finds the flipped bit; without a place it is about the lake."""
    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    monkeypatch.setenv("CTG_DATA_DIR", str(signed.folder / "data"))
    monkeypatch.setenv("CTG_RELEASE_KEY", str(key))
    place = tmp_path / "out"

    def run(*command: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, list(map(str, command)))
        return done.exit_code, done.output

    assert run("verify", place)[0] == 1
    code, said = run("release", place, "--lake-only")
    assert code == 0, said
    assert "000001-2026-11-01" in said
    assert "the registry counted 40 studies" in said
    code, said = run("release", place, "--lake-only")
    assert "nothing has changed" in said
    code, said = run("verify", place, "--key", public)
    assert code == 0, said
    assert "by the key given (SHA-256 " in said
    assert ": 0 problems" in said
    [signature] = place.rglob("manifest.json.sig")
    manifest = signature.with_name("manifest.json")
    subprocess.run(
        shlex.split(
            f"openssl pkeyutl -verify -pubin -inkey {public} -rawin -in {manifest} -sigfile {signature}"
        ),
        check=True,
        capture_output=True,
    )
    studies = min(place.glob("tables/staging/studies/*"))
    studies.write_bytes(studies.read_bytes()[:-9] + b"A" + studies.read_bytes()[-8:])
    code, said = run("verify", place)
    assert code == 1
    assert f"damaged: {studies.relative_to(place)}: its SHA-256 is not what" in " ".join(
        said.split()
    )
    assert "files of the lake" in run("verify")[1]
    assert "files of the lake" in run("verify", signed.folder / "data")[1]
