"""A lake in a bucket is the same as one in a directory, on a real S3-compatible server."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from holdtrue_lake.compaction import compact
from holdtrue_lake.digest import content_digest
from holdtrue_lake.erasure import Erased, erase_rows
from holdtrue_lake.proof import scan
from holdtrue_lake.ranges import Ranges
from holdtrue_lake.storage import Root, Storage, StoreUnfit, check_root, folder, lake_root, quarantine_uri, rows_uri
from holdtrue_lake.table import DatasetTable, Offer, Source
from holdtrue_lake.upkeep import vacuum
from holdtrue_lake.validation import Validated
from holdtrue_lake.versions import read_quarantine, read_version
from holdtrue_local import foreign
from pyarrow.fs import FileSelector

from .persons import NOW, Persons
from .s3_server import BUCKET, options_for, seaweedfs, without_conditions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema

ALL = [(0, 1_000_000)]
MISSING = foreign.missing("s3")
on_s3 = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as port:
        yield port


@pytest.fixture
def bucket(port: int) -> Root:
    return lake_root(f"s3://{BUCKET}/{uuid.uuid4()}/", options_for(port))


def life(root: Root, dataset_id: str) -> tuple[pa.Table, list[str]]:
    """What is left after all that happens to a table."""
    persons = Persons(root, dataset_id)
    for number in range(4):
        persons.append([number, 1, 2], refused=[number])
    version = Ranges.of([(0, 2)])
    compact(root, dataset_id, [version])
    found = erase_rows(root, dataset_id, persons.pseudonyms([1]), ["erasure"])
    assert found == Erased(5, 1, Ranges.of([(0, 3)]))
    vacuum(root, dataset_id, timedelta(), alone=True)
    assert scan(root, dataset_id, persons.pseudonyms([1])).found == ()
    left = persons.protection.reveal(read_version(root, dataset_id, version), persons.by_pseudonym())
    reasons = read_quarantine(root, dataset_id).column("reason").to_pylist()
    return left.drop_columns("_subject"), reasons


@on_s3
def test_a_lake_in_a_bucket_is_the_same_as_one_in_a_directory(bucket: Root, tmp_path: Path, dataset_id: str) -> None:
    check_root(bucket)
    here, there = life(tmp_path, dataset_id), life(bucket, dataset_id)

    assert content_digest(here[0]) == content_digest(there[0])
    assert here[0].num_rows == 5
    assert here[1] == there[1]
    for place, left in ((rows_uri, 2), (quarantine_uri, 3)):
        files = folder(place(bucket, dataset_id)).get_file_info(FileSelector("", recursive=True))
        assert sum(info.is_file and not info.path.startswith("_delta_log") for info in files) == left


@on_s3
def test_two_writers_lose_nothing_in_a_bucket(bucket: Root, dataset_id: str, schema: DatasetSchema) -> None:
    own = {"amount": pa.array([1.0], pa.float32()), "country": ["DE"], "known": [True], "fraud": [0]}
    lake = {"_row": pa.array([0], pa.int32()), "_event_time": pa.array([NOW], pa.timestamp("us", "UTC"))}
    rows = pa.table(own | lake)
    failed: list[Exception] = []

    def write(partition: int) -> None:
        try:
            table = DatasetTable(bucket, dataset_id, schema)
            for offset in range(8):
                offer = Offer(offset, f"{partition}-{offset}", Validated(rows, ()))
                table.ingest(Source("cluster", "topic", partition), [offer], NOW)
        except Exception as error:  # noqa: BLE001  told below
            failed.append(error)

    DatasetTable(bucket, dataset_id, schema)
    writers = [threading.Thread(target=write, args=(partition,)) for partition in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert failed == []
    found = read_version(bucket, dataset_id, ALL)
    assert found.column("_part").to_pylist() == [0] * 8 + [1] * 8
    assert sorted(found.column("_commit").to_pylist()) == list(range(16))


@on_s3
def test_a_store_that_ignores_conditions_is_refused(port: int) -> None:
    with without_conditions(port) as careless:
        root = lake_root(f"s3://{BUCKET}/{uuid.uuid4()}", options_for(careless, AWS_SKIP_SIGNATURE="true"))
        with pytest.raises(StoreUnfit, match="ignores conditional puts"):
            check_root(root)


@on_s3
def test_a_place_that_cannot_be_written_is_refused(port: int) -> None:
    wrong = options_for(port) | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with pytest.raises(StoreUnfit, match=r"s3://lake/wrong cannot be written: .*SignatureDoesNotMatch"):
        check_root(lake_root(f"s3://{BUCKET}/wrong", wrong))


def test_a_directory_is_fit_and_stays_as_it_was(tmp_path: Path) -> None:
    check_root(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_one_setting_names_a_directory_or_a_bucket(tmp_path: Path) -> None:
    assert lake_root(str(tmp_path)) == tmp_path
    bucket = lake_root("s3://bucket/lake/", {"AWS_SECRET_ACCESS_KEY": "secret"})
    assert bucket == Storage("s3://bucket/lake", {"AWS_SECRET_ACCESS_KEY": "secret"})
    assert "secret" not in repr(bucket)
    for setting in ("gs://bucket", "", "http://host/x"):
        with pytest.raises(ValueError, match=r"a lake lies in a directory or at s3://bucket/prefix"):
            lake_root(setting)
