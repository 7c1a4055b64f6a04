"""`ctg-assets serve` as people start it."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from ctg_assets.postgres.cluster import read_postmaster
from ctg_assets_tests.orchestration.workplace import Workplace, wait_until
from ctg_assets_tests.serve.processes import PATIENCE_SECONDS, serving

pytestmark = [pytest.mark.process, pytest.mark.postgres]


@pytest.fixture
def place(data_dir: Path, tmp_path: Path) -> Workplace:
    """A workplace on a data folder that has a cluster, with a registry that nobody serves."""
    return Workplace(tmp_path, "http://127.0.0.1:9/api/v2", data_dir=str(data_dir))


def test_the_embedded_server_is_kept_up_and_the_service_ends_in_good_order(
    place: Workplace, data_dir: Path
) -> None:
    """Healthy while it runs, unhealthy when it was killed, healthy again by itself; SIGTERM ends both with 0."""
    cluster = data_dir / "postgres" / "data"

    with serving(place) as service:

        def is_healthy() -> bool:
            return service.status_of("/health") == 200

        wait_until("health", is_healthy, PATIENCE_SECONDS)
        assert service.status_of("/ready") == 503
        before = read_postmaster(cluster)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        wait_until("its end", lambda: not is_healthy(), PATIENCE_SECONDS, 0.05)
        wait_until("health again", is_healthy, PATIENCE_SECONDS)
        after = read_postmaster(cluster)
        assert after is not None
        assert after.pid != before.pid
        code, err = service.end()
    assert code == 0
    assert "is being started again" in err
    assert "Traceback" not in err
    assert read_postmaster(cluster) is None


def test_a_port_that_is_taken_is_named_with_the_remedy(place: Workplace) -> None:
    """The command ends with 1 and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = place.ctg("serve", "--port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "--port" in done.stderr
