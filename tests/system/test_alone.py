"""Each service alone, by its own entry point and settings; the platform with servers that others run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from holdtrue_contracts.actor import local_person
from holdtrue_contracts.catalogue import TOPICS
from holdtrue_contracts.common.v1.signature_pb2 import ColumnSpec
from holdtrue_contracts.deployer.v1 import deployment_service_pb2 as deployer
from holdtrue_contracts.deployer.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from holdtrue_contracts.monitor.v1 import monitor_service_pb2 as monitor
from holdtrue_contracts.monitor.v1.monitor_service_pb2_grpc import AlertServiceStub
from holdtrue_contracts.oip import inference_pb2 as oip
from holdtrue_contracts.oip.client import method
from holdtrue_contracts.registry.v1 import dataset_service_pb2 as registry
from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
from holdtrue_contracts.trainer.v1 import trainer_service_pb2 as trainer
from holdtrue_contracts.trainer.v1.trainer_service_pb2_grpc import TrainerServiceStub
from holdtrue_core.channels import as_actor
from holdtrue_core.ids import uuid7
from holdtrue_local import control, services
from holdtrue_local.databases import Accounts
from holdtrue_local.migrate import migrate
from holdtrue_local.service_program import ServiceProgram

from tests.system.conftest import HOLDTRUE
from tests.system.outside import servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("alone"),
]
_PERSON = as_actor(local_person())


@dataclass(frozen=True)
class Outside:
    """Where the servers are."""

    kafka: str
    postgres: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outside(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outside]:
    async with servers(tmp_path_factory.mktemp("outside")) as (postgres, kafka):
        yield Outside(kafka.bootstrap, postgres.uri)


class Alone(ServiceProgram):
    """A service that sees no variable but its settings and where programs are."""

    def environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], **self._settings}


async def registry_keeps_a_dataset(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = DatasetServiceStub(channel)
        schema = DatasetSchema(columns=[ColumnSpec(name="x", dtype="float32"), ColumnSpec(name="y", dtype="int64")])
        schema.label = "y"
        await stub.CreateDataset(registry.CreateDatasetRequest(name="visits", schema=schema), metadata=_PERSON)
        answer = await stub.GetDataset(registry.GetDatasetRequest(dataset="visits"))
        assert (answer.dataset.name, answer.dataset.latest_version) == ("visits", 0)


async def trainer_keeps_a_policy(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = TrainerServiceStub(channel)
        policy = trainer.RetrainingPolicy(model_id=str(uuid7()), dataset_id=str(uuid7()), runs_per_day=3)
        await stub.PutRetrainingPolicy(trainer.PutRetrainingPolicyRequest(policy=policy), metadata=_PERSON)
        answer = await stub.GetRetrainingPolicy(trainer.GetRetrainingPolicyRequest(model_id=policy.model_id))
        assert answer.policy == policy


async def deployer_keeps_a_deployment(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = DeploymentServiceStub(channel)
        wanted = deployer.CreateDeploymentRequest(name="check", model_id=str(uuid7()), model_name="check")
        await stub.CreateDeployment(wanted, metadata=_PERSON)
        answer = await stub.ListDeployments(deployer.ListDeploymentsRequest())
        assert [d.state.name for d in answer.deployments] == ["check"]


async def monitor_knows_of_no_alert(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await AlertServiceStub(channel).ListAlerts(monitor.ListAlertsRequest(include_resolved=True))
        assert list(answer.alerts) == []


async def inference_says_what_it_serves(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        assert (await method(channel, "ServerReady")(oip.ServerReadyRequest())).ready
        with pytest.raises(grpc.aio.AioRpcError, match="check") as refused:
            await method(channel, "ModelMetadata")(oip.ModelMetadataRequest(name="check"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def console_shows_itself(address: str) -> None:
    page = await asyncio.to_thread(_get, f"http://{address}/")
    assert b"<!doctype html>" in page.lower()
    told = json.loads(await asyncio.to_thread(_get, f"http://{address}/.well-known/holdtrue"))
    assert told["services"]["console"]["http"] == address


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310  our own page
        assert answer.status == 200
        return answer.read()


QUESTIONS: dict[str, Callable[[str], Awaitable[None]]] = {
    "registry": registry_keeps_a_dataset,
    "trainer": trainer_keeps_a_policy,
    "deployer": deployer_keeps_a_deployment,
    "monitor": monitor_knows_of_no_alert,
    "inference": inference_says_what_it_serves,
    "console": console_shows_itself,
}


@pytest.mark.parametrize("service", services.SERVICES, ids=lambda service: service.name)
async def test_a_service_runs_alone(service: services.Service, outside: Outside, tmp_path: Path) -> None:
    roles = [service.name] if service.database else []
    accounts = Accounts(outside.postgres, roles, kept=tmp_path / "passwords.json")
    await migrate(outside.kafka, outside.postgres, accounts.passwords)
    ports = services.choose_ports([service], free=True)
    dsn = accounts.dsn(service.name) if service.database else None
    settings = services.environment(service, tmp_path, ports, kafka=outside.kafka, postgres=dsn)
    program = Alone(service, ports[service.name], settings, tmp_path / "logs")
    try:
        await program.start()
        kind = "grpc" if "grpc" in service.ports else "http"
        await QUESTIONS[service.name](services.addresses(ports)[service.name][kind])
        if service.database:
            assert await tables(outside.postgres, service.name)
        await program.stop()
        assert await program.wait() == 0, program.log.read_text()
    finally:
        await program.kill()


async def tables(admin: str, role: str) -> list[str]:
    """Tables of the schema of this name that belong to the role of this name."""
    connection = await asyncpg.connect(admin)
    try:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tableowner = $1"
        return [row["tablename"] for row in await connection.fetch(query, role)]
    finally:
        await connection.close()


async def test_the_outside_database_wants_the_password(outside: Outside) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(outside.postgres, password="another")  # noqa: S106


async def test_up_uses_outside_servers(outside: Outside, home: dict[str, str], tmp_path: Path) -> None:
    before = await records(outside.kafka, "data.v1")
    (tmp_path / "payments.csv").write_text("x,y\n0.5,1\n0.25,0\n")
    options = ["--ports", "free", "--kafka", outside.kafka, "--postgres", outside.postgres]
    await run(home, "up", "--detach", *options)
    await run(home, "datasets", "add", "payments", str(tmp_path / "payments.csv"), "--label", "y")
    status: Any = control.status(tmp_path)
    assert {p["name"] for p in status["programs"]} == set(QUESTIONS)
    assert all(p["answers"] for p in status["programs"]), status
    assert status["endpoints"]["kafka"] == outside.kafka
    assert not (tmp_path / "kafka").exists()
    assert not (tmp_path / "postgres").exists()
    assert await records(outside.kafka, "data.v1") > before
    assert await tables(outside.postgres, "monitor")


async def run(home: dict[str, str], *arguments: str) -> None:
    """Run the command line to its good end, without holding up the loop."""
    done = await asyncio.to_thread(
        subprocess.run, [*HOLDTRUE, *arguments], env=home, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr


async def records(address: str, topic: str) -> int:
    """How many records a topic has had; 0 where there is none of this name."""
    async with AIOKafkaConsumer(bootstrap_servers=address) as consumer:
        if topic not in await consumer.topics():
            return 0
        ends = await consumer.end_offsets([TopicPartition(topic, i) for i in range(TOPICS[topic].partitions)])
        return sum(ends.values())
