"""What people and programs get wrong, and what the error has to say: what, where and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import holdtrue as ht
import numpy as np
from grpc import StatusCode
from holdtrue_contracts.monitor.v1.monitor_service_pb2 import Label
from holdtrue_contracts.oip import inference_pb2 as oip

from tests.system.doors import GOOD_ROW

if TYPE_CHECKING:
    from holdtrue.client import Client
    from holdtrue_core.errors import HoldtrueError

FILES: dict[str, str | bytes] = {
    "empty.csv": "",
    "header.csv": "a,bad\n",
    "ragged.csv": "a,b,bad\n1,2,0\n3,4\n",
    "word.csv": "a,bad\n1,0\n2,1\nx,1\n4,0\n",
    "infinite.csv": "a,bad\n0.5,1\ninf,0\n",
    "semicolon.csv": "a;bad\n1;0\n",
    "fine.csv": "a,bad\n1,0\n2,1\n",
    "binary.csv": b"\xff\xfe\x00\x01\n\x02\xc1",
    "recipe.yaml": "estimator: os.system\n",
    "words.jsonl": json.dumps(GOOD_ROW) + "\nnot json\n",
    "lacks.jsonl": '{"amount": 1, "age": 2, "visits": 3}\n',
    "text.jsonl": "\n" + json.dumps(GOOD_ROW | {"age": "old"}),
    "nan.jsonl": "\n".join([json.dumps(GOOD_ROW)] * 1200 + [json.dumps(GOOD_ROW | {"age": None})]),
    "great.jsonl": json.dumps(GOOD_ROW | {"age": 1e300}),
    "long.jsonl": json.dumps(GOOD_ROW | {"note": "x" * (1 << 20)}),
    "empty.onnx": "",
    "pickle.onnx": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.",
    "cut.onnx": b"\x08\x09\x12",
    "labels.csv": "prediction_id,label\nnonsense,1\nnonsense,7\n",
}
"""Files that the command lines name."""
HUGE = "huge.csv"
HUGE_BYTES = 3 << 30


class Wrong(NamedTuple):
    """A command line, its exit code, and what the error has to say."""

    words: str
    code: int
    says: tuple[str, ...]


PREDICTION = "018f3b6e-7c00-7abc-8def-0123456789ab/000G00400J0YZ"
COMMANDS = [
    # no such command, flag, value
    Wrong("deplo check", 2, ('"deplo"', 'Did you mean "deploy"?', "→ holdtrue --help")),
    Wrong("datasets ad x", 2, ('"ad"', 'Did you mean "add"?', "→ holdtrue datasets --help")),
    Wrong("train check --daat visits --data visits", 2, ("--daat", "Did you mean --data?", "holdtrue train --help")),
    Wrong("models register new none.onnx --data visits", 6, ("none.onnx", "No such file", "path of a model file")),
    Wrong("models register new . --data visits", 6, ("Is a directory", "path of a model file")),
    Wrong("models register new empty.onnx --data visits", 6, ("the file is empty",)),
    Wrong("models register new pickle.onnx --data visits", 6, ("a pickle, which runs code", "give the model as ONNX")),
    Wrong("models register new cut.onnx --data visit", 3, ("no dataset 'visit'", "known are")),
    Wrong("models register new cut.onnx --data visits --threshold 2", 2, ("--threshold", "<= 1")),
    Wrong("train check", 2, ("--data", "requires", "→ holdtrue train --help")),
    Wrong("train new --data visits --min-precision high", 2, ("--min-precision", '"high"', "float")),
    Wrong("alerts list --severity bad", 2, ("--severity", '"bad"', '"warning"')),
    Wrong("predict check -f good.jsonl -o yaml", 2, ('"yaml"', '"ndjson"')),
    Wrong("runs list --limit -1", 2, ("--limit", '"-1"', ">= 1")),
    Wrong("logs -n -1", 2, ("-n", ">= 0")),
    Wrong("status -o yaml", 2, ('"yaml"', '"json"')),
    Wrong("runs list --limit 99999999999999999999", 2, ("--limit", "99999999999999999999")),
    Wrong("deploy check@99999999999999999999", 2, ("a version number", "99999999999999999999")),
    Wrong("events tail --from 99999999999d", 2, ("at most 36500d", "99999999999d")),
    Wrong("events tail -o csv", 2, ('"csv"', '"ndjson"')),
    Wrong("logs -n 99999999999999999999", 2, ("-n", "99999999999999999999")),
    Wrong("rollback check --reason x --to 99999999999999999999", 2, ("--to", "99999999999999999999")),
    Wrong("train new --data visits --seed 99999999999999999999", 2, ("--seed", "99999999999999999999")),
    Wrong(f"labels add {PREDICTION} 1 --revision 99999999999999999999", 2, ("--revision", "99999999999999999999")),
    Wrong(f"alerts watch --since {'9' * 5000}", 6, ("was never given out",)),
    # datasets
    Wrong("datasets add new semicolon.csv --label bad", 6, ("no column 'bad'", "a;bad", "with commas")),
    Wrong("datasets add new none.csv --label bad", 6, ("none.csv", "No such file", "give the path")),
    Wrong("datasets add new . --label bad", 6, ("expected a CSV file, got a folder",)),
    Wrong("datasets add new empty.csv --label bad", 6, ("empty.csv", "header", "empty file")),
    Wrong("datasets add new header.csv --label bad", 6, ("header.csv", "expected rows after the header")),
    Wrong("datasets add new ragged.csv --label bad", 6, ("ragged.csv", "line 3", "Expected 3 columns, got 2")),
    Wrong("datasets add new word.csv --label bad", 6, ("word.csv, line 4, column a", "a number", "'x'", "--text")),
    Wrong("datasets add new infinite.csv --label bad", 6, ("infinite.csv, line 3, column a", "finite", "inf")),
    Wrong("datasets add new binary.csv --label bad", 6, ("binary.csv",)),
    Wrong("datasets add new huge.csv --label bad", 6, ("huge.csv", "3,221,225,472 bytes", "split it")),
    Wrong("datasets add new fine.csv", 6, ("label", "new is new", "say which column", "a, bad")),
    Wrong("datasets add new fine.csv --label worse", 6, ("label", "'worse'", "the columns are a, bad")),
    Wrong("datasets add 'a b' fine.csv --label bad", 6, ("name", "letters, digits", "'a b'")),
    Wrong("datasets add visits fine.csv", 6, ("dataset visits", "missing amount, age", "unknown a", "it takes")),
    Wrong("datasets add visits visits.csv --label age", 6, ("label", "visits has bad, not age", "leave it out")),
    Wrong("datasets show nothing", 3, ("'nothing'", "→ holdtrue datasets list")),
    Wrong("datasets show visits@last", 2, ("visits@last", "a version number", "'last'")),
    # training
    Wrong("train new --data nothing", 3, ("'nothing'", "known are: visits", "Publish rows")),
    Wrong("train new --data visits --recipe best", 6, ("recipe", "'best'", "built in are", "logistic")),
    Wrong("train new --data visits --recipe none.yaml", 2, ("none.yaml", "No such file", "YAML")),
    Wrong("train new --data visits --recipe recipe.yaml", 6, ("estimator", "'os.system'", "LogisticRegression")),
    Wrong("train new --data visits --timeout soon", 2, ("a duration such as", "'soon'")),
    Wrong("train new --data visits --seed -4", 6, ("seed", "from 0 to 2,147,483,647", "-4")),
    Wrong("train new --data visits --min-precision 3", 6, ("min_precision", "less than 1", "3")),
    Wrong("train 'a b' --data visits", 6, ("letter", "'a b'")),
    Wrong("train check --data visits --min-precision 0.5", 5, ("check exists", "choose another name")),
    Wrong("runs show nothing", 3, ("'nothing'", "list the runs")),
    # serving
    Wrong("models show nothing", 3, ("'nothing'", "→ holdtrue models list")),
    Wrong("deploy check@9", 3, ("no version 9", "newest is 1")),
    Wrong("deploy check@1 --canary 50,5", 6, ("canary", "rising percentages", "[50.0, 5.0]")),
    Wrong("deploy check@1 --every often", 2, ("a duration such as", "'often'")),
    Wrong("rollout show nothing", 3, ("'nothing'", "→", "holdtrue deploy")),
    Wrong("rollback check --reason x --yes", 5, ("nothing to return to", "check")),
    # predicting
    Wrong("predict nothing -f good.jsonl", 3, ("'nothing'", "served: check")),
    Wrong("predict check@9 -f good.jsonl", 3, ("no version '9'", "loaded: 1")),
    Wrong("predict check -f none.jsonl", 6, ("none.jsonl", "No such file", "one JSON object a line")),
    Wrong("predict check -f empty.csv", 6, ("empty.csv", "at least one row", "got none")),
    Wrong("predict check -f binary.csv", 6, ("binary.csv", "UTF-8")),
    Wrong("predict check -f words.jsonl", 6, ("words.jsonl, line 2", "one JSON object", "'not json'")),
    Wrong("predict check -f lacks.jsonl", 6, ("lacks.jsonl, line 1 lacks column distance", "the model takes")),
    Wrong("predict check -f text.jsonl", 6, ("text.jsonl, line 2, column age", "a number", "'old'")),
    Wrong("predict check -f nan.jsonl -o name", 6, ("nan.jsonl, line 1201, column 'age'", "finite", "fill them in")),
    Wrong("predict check -f great.jsonl", 6, ("great.jsonl, line 1, column age", "3.40282e+38", "1e+300")),
    Wrong("predict check -f long.jsonl", 6, ("long.jsonl, line 1", "at most 1,048,576 characters")),
    Wrong("predict check -f good.jsonl --deadline soon", 2, ("a duration such as", "'soon'")),
    Wrong("predict check -f good.jsonl --deadline 0s", 6, ("deadline", "above 0")),
    # labels, alerts, events
    Wrong("labels add nonsense 1", 6, ("<request id>/<tail>", "'nonsense'")),
    Wrong(f"labels add {PREDICTION} maybe", 6, ("VALUE", "class's index", "'maybe'")),
    Wrong(f"labels add {PREDICTION} 7", 6, ("0 or 1", "7")),
    Wrong("labels add labels.csv", 6, ("2 labels", "none of these was recorded", "labels.csv, line 3", "0 or 1")),
    Wrong("labels add fine.csv", 6, ("fine.csv, line 1", "prediction_id and label", "a, bad")),
    Wrong("alerts list --deployment nothing", 3, ("'nothing'", "deployed")),
    Wrong("alerts watch --since then", 6, ("'then'", "never given out")),
    Wrong("events tail --from then", 2, ("a duration such as", "'then'")),
    Wrong("events tail --type Prediction", 2, ("--type Prediction", "did you mean", "PredictionsServed")),
    Wrong("events dlq replay nothing", 3, ("nothing", "→ list them: holdtrue events dlq list")),
    Wrong("logs nobody", 3, ("'nobody'", "there are console, deployer")),
    Wrong("up --only registri", 1, ("'registri'", "the services are registry")),
]


Call = Callable[["Client"], object]


class Refused(NamedTuple):
    """A call of the SDK, the error that it raises, and what that has to say."""

    call: Call
    error: type[HoldtrueError]
    says: tuple[str, ...]


def _ask(rows: Any, **options: Any) -> Call:
    def ask(client: Client) -> object:
        return client.model("check").predict(rows, **options)

    return ask


def _offer(dataset: str, row: dict[str, Any]) -> Call:
    def offer(client: Client) -> None:
        with client.producer() as out:
            out.event(dataset, row)

    return offer


def _label(*label: Any, **options: Any) -> Call:
    def tell(client: Client) -> None:
        with client.producer() as out:
            out.label(*label, **options)

    return tell


def _add(rows: list[dict[str, Any]], label: str) -> Call:
    return lambda client: client.datasets.add("new", rows, label=label)


def _connect(_: Client) -> object:
    return ht.connect("http://127.0.0.1:1")


def _ask_nobody(client: Client) -> object:
    return client.model("nothing").predict(GOOD_ROW)


def _label_too_much(client: Client) -> object:
    return client.labels.record([Label(external_id="x" * (5 << 20))])


def _watch_badly(client: Client) -> object:
    return list(client.alerts(severity="bad"))


NAN_IN_4321 = np.full((5000, 4), 0.5)
NAN_IN_4321[4321, 1] = np.nan
SDK = {
    "model": Refused(_ask_nobody, ht.NotFound, ("'nothing'", "served: check")),
    "version": Refused(_ask(GOOD_ROW, version=9), ht.NotFound, ("'9'", "loaded: 1")),
    "lacking": Refused(_ask({"age": 1}), ht.InvalidArgument, ("row 0 lacks columns amount", "the model takes")),
    "unknown": Refused(_ask(GOOD_ROW | {"height": 2}), ht.InvalidArgument, ("row 0 has unknown column height",)),
    "text": Refused(_ask([GOOD_ROW, GOOD_ROW | {"age": "old"}]), ht.InvalidArgument, ("row 1, column age", "'old'")),
    "missing": Refused(_ask([GOOD_ROW, GOOD_ROW | {"age": None}]), ht.InvalidArgument, ("row 1, column 'age'", "fill")),
    "no rows": Refused(_ask([]), ht.InvalidArgument, ("at least one",)),
    "no row": Refused(_ask("rows"), ht.InvalidArgument, ("a dict, a list of dicts or an array", "str")),
    "shape": Refused(_ask(np.zeros((2, 3))), ht.InvalidArgument, ("[n, 4]", "[2, 3]")),
    "dtype": Refused(_ask(np.full((2, 4), "a")), ht.InvalidArgument, ("array of numbers", "<U1")),
    "nan": Refused(_ask(NAN_IN_4321), ht.InvalidArgument, ("row 4321, column 'age'", "finite", "nan")),
    "too great": Refused(_ask(np.full((1, 4), 1e300)), ht.InvalidArgument, ("row 0, column amount", "1e+300")),
    "long key": Refused(_ask(GOOD_ROW, key="k" * 200), ht.InvalidArgument, ("id", "at most 128")),
    "key of many": Refused(_ask([GOOD_ROW], key="k"), ht.InvalidArgument, ("key", "one by one")),
    "deadline": Refused(_ask(GOOD_ROW, deadline=-1), ht.InvalidArgument, ("deadline", "above 0", "-1")),
    "too large": Refused(_label_too_much, ht.InvalidArgument, ("at most 4,194,304", "less")),
    "event, dataset": Refused(_offer("nothing", GOOD_ROW), ht.NotFound, ("'nothing'",)),
    "event, column": Refused(_offer("visits", {"height": 2}), ht.InvalidArgument, ("visits", "height", "it has age")),
    "event, value": Refused(_offer("visits", {"age": np.nan}), ht.InvalidArgument, ("visits", "JSON", "nan")),
    "event, size": Refused(_offer("visits", {"age": "x" * 900_000}), ht.InvalidArgument, ("at most 800000 bytes",)),
    "label, id": Refused(_label("nonsense", 1), ht.InvalidArgument, ("<request id>/<tail>", "'nonsense'")),
    "label, value": Refused(_label("", "yes", key="k"), ht.InvalidArgument, ("class index", "'yes'")),
    "label, revision": Refused(_label("", 1, key="k", revision=-1), ht.InvalidArgument, ("0 or higher", "-1")),
    "label, great revision": Refused(_label("", 1, key="k", revision=1 << 63), ht.InvalidArgument, ("at most 2^63",)),
    "label, infinite": Refused(_label("", np.inf, key="k"), ht.InvalidArgument, ("class index", "inf")),
    "label, weight": Refused(_label("", 1, key="k", weight=np.nan), ht.InvalidArgument, ("weight", "nan")),
    "label, key": Refused(_label("", 1, key="a\0b"), ht.InvalidArgument, ("key", "printable ASCII", "'a\\x00b'")),
    "label, time": Refused(
        _label("", 1, key="k", observed_at=datetime(1, 1, 1, tzinfo=UTC)), ht.InvalidArgument, ("from 1970",)
    ),
    "label, zone": Refused(
        _label("", 1, key="k", observed_at=datetime(2026, 1, 1)),  # noqa: DTZ001
        ht.InvalidArgument,
        ("no time zone",),
    ),
    "table": Refused(_add([{"a": 1}, {"a": "x"}], "a"), ht.InvalidArgument, ("one type of value a column",)),
    "table, role": Refused(_add([{"a": 1}], "b"), ht.InvalidArgument, ("label", "'b'", "the columns are a")),
    "alerts": Refused(_watch_badly, ht.InvalidArgument, ("'bad'", "critical")),
    "address": Refused(_connect, ht.Unavailable, ("http://127.0.0.1:1", "refused")),
}


class Unreadable(NamedTuple):
    """A request of the Open Inference Protocol, the status that answers it, what it says, the part that is wrong."""

    request: oip.ModelInferRequest | bytes
    code: StatusCode
    says: tuple[str, ...]
    field: str = ""


def _infer(shape: tuple[int, ...] = (1, 4), raw: bytes | None = None, **parts: str) -> oip.ModelInferRequest:
    """Return a right request, but for the parts named."""
    request = oip.ModelInferRequest(
        model_name=parts.get("model", "check"), model_version=parts.get("version", ""), id=parts.get("id", "")
    )
    request.inputs.add(name=parts.get("name", "X"), datatype=parts.get("datatype", "FP32"), shape=shape)
    request.raw_input_contents.append(np.full(shape, 0.5, np.float32).tobytes() if raw is None else raw)
    return request


_INVALID, _UNKNOWN = StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND
_NAN = np.full((1, 4), np.nan, np.float32).tobytes()
OIP = {
    "model": Unreadable(_infer(model="nothing"), _UNKNOWN, ("'nothing'", "served: check")),
    "version": Unreadable(_infer(version="9"), _UNKNOWN, ("'9'", "loaded: 1")),
    "width": Unreadable(_infer((1, 3)), _INVALID, ("[rows, 4]", "[1, 3]"), "inputs[0].shape"),
    "rank": Unreadable(_infer((4,)), _INVALID, ("[rows, 4]", "[4]"), "inputs[0].shape"),
    "negative": Unreadable(_infer((-1, 4), b""), _INVALID, ("1 to 10,000 rows", "-1"), "inputs[0].shape"),
    "rows": Unreadable(_infer((10_001, 4)), _INVALID, ("1 to 10,000 rows", "10001", "split"), "inputs[0].shape"),
    "datatype": Unreadable(_infer(datatype="BYTES"), _INVALID, ("FP32", "'BYTES'"), "inputs[0].datatype"),
    "size": Unreadable(_infer(datatype="FP64"), _INVALID, ("32 bytes for FP64", "got 16"), "inputs[0]"),
    "short": Unreadable(_infer(raw=b"abc"), _INVALID, ("16 bytes", "got 3"), "inputs[0]"),
    "nan": Unreadable(_infer(raw=_NAN), _INVALID, ("row 0, column 'amount'", "finite", "nan", "fill"), "inputs"),
    "name": Unreadable(_infer(name="Y"), _INVALID, ("'X' [rows, 4]", "missing: 'amount'", "'Y'"), "inputs"),
    "id": Unreadable(_infer(id="x" * 129), _INVALID, ("at most 128",), "id"),
    "nothing": Unreadable(oip.ModelInferRequest(model_name="check"), _INVALID, ("expected 'X'",), "inputs"),
    "bytes": Unreadable(b"\xff\xff", _INVALID, ("no ModelInferRequest",), "request"),
    "too large": Unreadable(_infer((300_000, 4), b"0" * (17 << 20)), StatusCode.RESOURCE_EXHAUSTED, ("16777216",)),
}
