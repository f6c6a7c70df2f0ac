"""A disk that is really full: refusals instead of answers that could be lost, and on it goes when there is room."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from holdtrue_contracts.deployer.v1.deployments_pb2 import Role
from holdtrue_storage.blobs import DirectoryBlobs

from tests.component.inference.harness import (
    Load,
    Service,
    ask,
    ask_until_answered,
    ids_of,
    predictions,
    publish,
    refused,
    served,
)
from tests.inference.models import store, with_traffic
from tests.inference.states import state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_events.kafka import Kafka

ROOM = 20_000


@pytest.fixture
def starter(tmp_path: Path) -> list[str]:
    """What starts a program whose cache is a file system of one megabyte."""
    cache = tmp_path / "cache"
    cache.mkdir()
    script = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    starter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(cache)]
    if subprocess.run([*starter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    return starter


@pytest.fixture
async def small(tmp_path: Path, bus: Kafka, starter: list[str]) -> AsyncIterator[Service]:
    """An inference process on a small disk, not started."""
    service = Service(tmp_path, bus, starter)
    yield service
    await service.close()


def fill(folder: Path) -> Path:
    """Leave little room on the disk; the file that fills it."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
        file.truncate(path.stat().st_size - ROOM)
    return path


async def test_a_full_disk_refuses_and_loses_nothing(small: Service, bus: Kafka) -> None:
    await small.start()
    revision = with_traffic(store(DirectoryBlobs(small.folder / "blobs")), 10_000, Role.ROLE_CHAMPION)
    await publish(bus, state(1, revision))
    await served(bus, 1)
    first = await ask(small)
    filler = fill(Path(f"/proc/{small.pid}/root{small.folder}/cache"))
    async with Load(small.address, callers=4) as load:
        refusal = await refused(load)
    assert refusal.reason == "SPOOL_FULL"
    assert "the disk of the prediction log is full; make room below" in refusal.message
    await publish(bus, state(2, revision))
    await served(bus, 2)
    filler.unlink()
    last = await ask_until_answered(small)
    assert await small.stop() == 0
    answered = [*first.prediction_ids, *load.ids, *last.prediction_ids]
    assert sorted(ids_of(await predictions(bus))) == sorted(answered)
