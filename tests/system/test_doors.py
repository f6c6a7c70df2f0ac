"""Wrong input at every door gives an error that says what, where and what to do, and nothing half-done remains."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from holdtrue.cli.app import build, run
from holdtrue.client import Client
from holdtrue.connection import Connection
from holdtrue.endpoints import Endpoints
from holdtrue_contracts.deployer.v1 import deployment_service_pb2
from holdtrue_contracts.monitor.v1 import monitor_service_pb2
from holdtrue_contracts.oip.client import method
from holdtrue_contracts.oip.inference_pb2 import ModelInferRequest
from holdtrue_contracts.registry.v1 import dataset_service_pb2, model_service_pb2
from holdtrue_contracts.trainer.v1 import trainer_service_pb2
from holdtrue_core.errors import HoldtrueError, Unavailable, from_rpc_error

from tests.system.doors import GOOD_ROW, Shell, serving
from tests.system.wrong import COMMANDS, FILES, HUGE, HUGE_BYTES, OIP, SDK, Refused, Unreadable, Wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from cyclopts import App


pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600), pytest.mark.xdist_group("doors")]
_SERVICES = {
    "registry": (dataset_service_pb2, model_service_pb2),
    "trainer": (trainer_service_pb2,),
    "deployer": (deployment_service_pb2,),
    "monitor": (monitor_service_pb2,),
}
METHODS = [
    (name, f"/{service.full_name}/{rpc.name}")
    for name, modules in _SERVICES.items()
    for module in modules
    for service in module.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods
]
FIELDS_ARE_OPTIONAL = tuple(
    f"/{name}"
    for name in (
        "GetHealth", "ListAlerts", "ListDatasets", "ListDeployments", "ListErasures", "ListModels", "ListRuns",
        "ListWindows", "RecordLabels", "Subscribe",
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with serving(tmp_path_factory.mktemp("doors")) as shell:
        for name, content in FILES.items():
            shell.write(name, content)
        with (shell.folder / HUGE).open("wb") as file:
            file.truncate(HUGE_BYTES)  # a hole: it takes no room
        yield shell


@pytest.fixture(scope="module")
def answers(shell: Shell) -> dict[str, CompletedProcess[str]]:
    """What each wrong command line answered; two run at a time, and afterwards everything is as it was."""
    lines = [wrong.words for wrong in COMMANDS]
    before = shell.settled()
    with ThreadPoolExecutor(2) as pool:
        answers = dict(zip(lines, pool.map(shell.type, lines), strict=True))
    assert shell.settled() == before
    return answers


@pytest.mark.parametrize("wrong", COMMANDS, ids=lambda wrong: wrong.words)
def test_a_wrong_command_line(answers: dict[str, CompletedProcess[str]], wrong: Wrong) -> None:
    done = answers[wrong.words]
    assert done.returncode == wrong.code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    told = done.stderr[done.stderr.index("✗ ") :]
    assert all(text in told for text in wrong.says), done.stderr
    assert len(told) < 1500


def test_programs_get_errors_as_json(shell: Shell) -> None:
    for line, code, following in (
        ("datasets show nothing -o json", "NOT_FOUND", "holdtrue datasets list"),
        ("datasets show visits --output=ndjson --no", "USAGE", "holdtrue datasets show --help"),
    ):
        error = json.loads(shell.type(line).stderr)
        assert (error["code"], error["next"], error["retryable"]) == (code, following, False)


@pytest.fixture
def unchanged(shell: Shell) -> Iterator[None]:
    """Nothing half-done remains."""
    before = shell.state()
    yield
    assert shell.state() == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("refused", SDK.values(), ids=SDK)
def test_a_wrong_call_of_the_sdk(shell: Shell, refused: Refused) -> None:
    with pytest.raises(HoldtrueError) as caught:
        refused.call(shell.client)
    assert type(caught.value) is refused.error
    assert all(text in str(caught.value) for text in refused.says), str(caught.value)


@pytest.fixture(scope="module")
def inference(shell: Shell) -> Iterator[grpc.Channel]:
    """A channel that limits nothing."""
    address = shell.endpoints.grpc("inference")
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


@pytest.mark.parametrize("wrong", OIP.values(), ids=OIP)
def test_a_wrong_request_of_the_open_inference_protocol(inference: grpc.Channel, wrong: Unreadable) -> None:
    data = wrong.request if isinstance(wrong.request, bytes) else wrong.request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        inference.unary_unary("/inference.GRPCInferenceService/ModelInfer")(data, timeout=10)
    error = from_rpc_error(caught.value)
    assert error.code is wrong.code, error.message
    assert all(text in error.message for text in wrong.says), error.message
    assert [violation.field for violation in error.violations] == ([wrong.field] if wrong.field else [])


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("name", "path"), METHODS)
def test_bytes_that_are_no_request(shell: Shell, name: str, path: str) -> None:
    error = _answer(shell, name, path, b"\xff\xff")
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT, error.message
    assert f"the bytes are no request of {path}" in error.message


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("name", "path"), [m for m in METHODS if not m[1].endswith(FIELDS_ARE_OPTIONAL)])
def test_an_empty_request_names_what_is_missing(shell: Shell, name: str, path: str) -> None:
    error = _answer(shell, name, path, b"")
    assert error.code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}, error.message
    assert error.message


def _answer(shell: Shell, service: str, path: str, request: bytes) -> HoldtrueError:
    """The error that a method answers with."""
    with grpc.insecure_channel(shell.endpoints.grpc(service)) as channel, pytest.raises(grpc.RpcError) as caught:
        next(channel.unary_stream(path)(request, timeout=10))  # a single answer is a stream of one
    return from_rpc_error(caught.value)


def test_wrong_requests_raise_no_alert_about_the_model(shell: Shell, inference: grpc.Channel) -> None:
    wrong = [request.request for request in OIP.values() if isinstance(request.request, ModelInferRequest)]
    infer = method(inference, "ModelInfer")
    for request in [*wrong[:-1], *wrong[:-1]]:
        with pytest.raises(grpc.RpcError):
            infer(request, timeout=10)
    shell.client.model("check").predict(GOOD_ROW)
    shell.wait_for_window(time.time_ns())
    assert list(shell.client.alerts(kind="serving", follow=False)) == []


def test_rows_that_do_not_fit_are_told_and_kept_apart(shell: Shell) -> None:
    shell.write("some.csv", "a,bad\n1,0\n,1\n3,1\n")
    done = shell.run("datasets", "add", "some", "some.csv", "--label", "bad")
    assert done.returncode == 0
    assert "! 1 of 3 rows were refused and are in quarantine" in done.stderr
    assert "column 'a': expected a whole number, got None (MISSING)" in done.stderr
    dataset = shell.client.datasets.get("some")
    assert (dataset.latest_version, dataset.accepted, dataset.quarantined) == (1, 2, 1)


def test_a_version_that_its_gate_refuses_is_not_deployed(shell: Shell) -> None:
    done = shell.type("train strict --data visits --recipe logistic --min-precision 0.999")
    assert done.returncode == 6, done.stderr
    assert "strict@1 did not pass its gate: floor: precision 0." in done.stderr
    assert "against a floor of 0.999" in done.stderr
    assert "→ see it: holdtrue models show strict@1" in done.stderr
    before = shell.settled()
    deployed = shell.type("deploy strict@1 --wait")
    assert deployed.returncode == 5
    assert "✗ strict@1 is rejected, and only an approved version serves: floor: precision" in deployed.stderr
    assert shell.settled() == before


def test_the_same_rows_again_say_what_there_is_and_what_comes_next(shell: Shell) -> None:
    done = shell.type("datasets add visits visits.csv")
    assert done.stdout.split("\n")[:2] == ["name         visits@1", "rows         600"]
    assert len(done.stdout) < 300
    assert done.stderr.endswith("→ next: holdtrue train MODEL --data visits\n")


@pytest.mark.parametrize("name", ["registry", "inference"])
def test_a_service_that_is_away_is_named(name: str) -> None:
    away = {"registry": {"grpc": "127.0.0.1:1"}, "inference": {"grpc": "127.0.0.1:2"}}
    client = Client(Connection(Endpoints(away, "127.0.0.1:3")))
    calls = {"registry": lambda: client.datasets.get("x"), "inference": lambda: client.model("x").predict(GOOD_ROW)}
    with pytest.raises(Unavailable, match=f"127.0.0.1:[12], the address of the service {name}: .*refused") as caught:
        calls[name]()
    assert caught.value.hint == "see what runs: holdtrue status"


def _commands(group: App, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of all commands below a group."""
    for name in group:
        if name.startswith("-"):
            continue
        found = group[name]
        below = list(_commands(found, *words, name))
        yield from below or [(*words, name)]


@pytest.mark.parametrize("words", list(_commands(build([]))), ids=" ".join)
def test_every_command_has_help_with_examples(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: holdtrue {' '.join(words)}" in shown
    assert f"Examples:\n    holdtrue {' '.join(words)}" in shown
