"""Datasets and their versions, as the registry knows them, and offering whole tables to them."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdtrue_contracts.registry.v1 import dataset_service_pb2
from holdtrue_contracts.registry.v1.dataset_service_pb2 import (
    CreateDatasetRequest,
    Dataset,
    GetDatasetRequest,
    GetDatasetVersionRequest,
    ListDatasetsRequest,
    ListDatasetVersionsRequest,
    PublishVersionRequest,
    PublishVersionResponse,
)
from holdtrue_contracts.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
from holdtrue_contracts.registry.v1.datasets_pb2 import (
    DatasetSchema,
    DatasetVersionPublished,
    RecordFormat,
    RecordsOffered,
)
from holdtrue_contracts.registry.v1.quarantine_pb2 import (
    ListQuarantineRequest,
    ListQuarantineResponse,
    RejectedRecord,
)
from holdtrue_contracts.registry.v1.rules_pb2 import (
    GetRulesRequest,
    InferRulesRequest,
    InferRulesResponse,
    PutRulesRequest,
    RuleSet,
)

from holdtrue.dataset_history import DatasetHistory
from holdtrue.erasures import DatasetErasures
from holdtrue.errors import AlreadyExists, InvalidArgument, NotFound
from holdtrue.expiry import DatasetExpiry
from holdtrue.paging import pages
from holdtrue.replay import DatasetReplay
from holdtrue.waiting import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pyarrow as pa

    from holdtrue.connection import Connection
    from holdtrue.rules import Roles
    from holdtrue.tables import Rows

PUBLISH_SECONDS = 240.0
_BUFFER_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a table: the version that holds its rows, and the rows that were refused."""

    version: DatasetVersionPublished
    offered: int
    quarantined: dict[str, int]
    """Refused rows by code."""
    examples: tuple[str, ...]
    """The first of them in words."""


class Datasets(DatasetHistory, DatasetErasures, DatasetExpiry, DatasetReplay):
    """The registry's datasets. What it returns are the platform's own messages."""

    def __init__(self, connection: Connection) -> None:
        """Use `Client.datasets` instead."""
        self._connection = connection
        self._call = connection.call
        self._stub = DatasetServiceStub(connection.channel("registry", dataset_service_pb2.DESCRIPTOR))

    def list(self) -> Iterator[Dataset]:
        """Yield all datasets by name."""
        return pages(
            lambda token: self._call(self._stub.ListDatasets, ListDatasetsRequest(page_token=token)),
            lambda page: page.datasets,
        )

    def get(self, dataset: str) -> Dataset:
        """Return a dataset by name or id; raises NotFound."""
        return self._call(self._stub.GetDataset, GetDatasetRequest(dataset=dataset)).dataset

    def version(self, dataset: str, version: int = 0) -> DatasetVersionPublished:
        """Return a version; 0: the newest. Raises NotFound."""
        request = GetDatasetVersionRequest(dataset=dataset, version=version)
        return self._call(self._stub.GetDatasetVersion, request).version

    def versions(self, dataset: str) -> Iterator[DatasetVersionPublished]:
        """Yield the versions of a dataset, newest first; raises NotFound."""
        return pages(
            lambda token: self._call(
                self._stub.ListDatasetVersions, ListDatasetVersionsRequest(dataset=dataset, page_token=token)
            ),
            lambda page: page.versions,
        )

    def create(self, name: str, schema: DatasetSchema | None = None, *, rules: str = "") -> Dataset:
        """Make a dataset of these columns, with rules (YAML); without columns it gets those that the rules name.

        Raises AlreadyExists, InvalidArgument.
        """
        request = CreateDatasetRequest(name=name, schema=schema, rules=rules)
        return self._call(self._stub.CreateDataset, request).dataset

    def infer(self, rows: Rows, *, label: str = "", time: str = "", text: Collection[str] = ()) -> InferRulesResponse:
        """Propose schema and rules from a sample, for a person to review: see `add` for the arguments.

        A very large sample is thinned out evenly; the answer says how many rows were looked at. Raises InvalidArgument.
        """
        from holdtrue.tables import as_table, payloads, thinned  # noqa: PLC0415

        table = thinned(as_table(rows, text))
        parts = (InferRulesRequest(rows=part, label=label, time=time) for _, part in payloads(table))
        return self._connection.upload(self._stub.InferRules, parts, PUBLISH_SECONDS)

    def rules(self, dataset: str, number: int = 0) -> RuleSet:
        """Return the rules in force, or earlier ones by their number; raises NotFound where there are none."""
        return self._call(self._stub.GetRules, GetRulesRequest(dataset=dataset, number=number)).rule_set

    def put_rules(self, dataset: str, rules: str, *, reason: str, dry_run: bool = False) -> RuleSet:
        """Put rules (YAML) in force for what is ingested from now on; `dry_run` only checks them.

        Raises NotFound, InvalidArgument with everything that is wrong with the rules.
        """
        request = PutRulesRequest(dataset=dataset, rules=rules, reason=reason, dry_run=dry_run)
        return self._call(self._stub.PutRules, request).rule_set

    def rejects(
        self, dataset: str, *, batch: str = "", code: str = "", with_bytes: bool = False
    ) -> Iterator[RejectedRecord]:
        """Yield the refused records, newest first, each with all its faults; raises NotFound.

        Only those of a `batch`, or whose first fault is of a kind, for example `WRONG_TYPE`; `raw` has the original
        bytes where they are wanted.
        """
        return pages(
            lambda token: self.rejects_page(dataset, batch, code, with_bytes=with_bytes, token=token),
            lambda page: page.records,
        )

    def rejects_page(  # noqa: PLR0913  what there is to choose
        self, dataset: str, batch: str = "", code: str = "", *, with_bytes: bool = False, size: int = 0, token: str = ""
    ) -> ListQuarantineResponse:
        """Return one page of `rejects`, with the number of all by the kind of their first fault."""
        request = ListQuarantineRequest(
            dataset=dataset, batch_id=batch, code=code, with_bytes=with_bytes, page_size=size, page_token=token
        )
        return self._call(self._stub.ListQuarantine, request)

    def add(  # noqa: PLR0913  what there is to say about rows
        self,
        name: str,
        rows: Rows,
        *,
        label: str = "",
        time: str = "",
        text: Collection[str] = (),
        subject: str = "",
        personal: Collection[str] = (),
        rules: str = "",
        progress: Progress = silent,
    ) -> Added:
        """Offer rows to a dataset and wait for the version that holds them; the same rows give the same version.

        `rows` are an Arrow table, a list of dicts or the path of a file (CSV, JSON lines, Parquet). A dataset that is
        new gets the columns of the rows; `label` names the one to predict, `time` the one with the time of the event,
        `text` those of a CSV file that are to be left as written. `subject` names the one that says which person a row
        is about, `personal` further ones that are encrypted with it, so that the person can be erased. `rules` (YAML)
        are for a new dataset, whose columns get these roles from there if they are not given. Raises InvalidArgument.
        """
        from holdtrue.rules import Roles  # noqa: PLC0415
        from holdtrue.tables import as_table, conform  # noqa: PLC0415  Arrow only where tables are read

        roles = Roles(label, time, subject, frozenset(personal))
        existing = self._existing(name)
        texts = {c.name for c in existing.schema.columns if c.dtype == "string"} if existing else set[str]()
        table = as_table(rows, {*text, *texts})
        _refuse_late_rules(existing, rules)
        dataset = existing or self._create(name, table, roles, rules)
        _refuse_other_roles(dataset, roles)
        batches = self._send(dataset, conform(table, dataset.schema, name), progress)
        progress("waiting for the version")
        request = PublishVersionRequest(dataset=dataset.dataset_id, batch_ids=batches)
        return _added(self._call(self._stub.PublishVersion, request, PUBLISH_SECONDS), table.num_rows)

    def _existing(self, name: str) -> Dataset | None:
        try:
            return self.get(name)
        except NotFound:
            return None

    def _create(self, name: str, table: pa.Table, given: Roles, rules: str) -> Dataset:
        from holdtrue.rules import roles  # noqa: PLC0415
        from holdtrue.tables import infer_schema  # noqa: PLC0415

        known = roles(rules, given)
        if not known.label:
            names = ", ".join(table.column_names[-3:])
            raise InvalidArgument(
                f"label: dataset {name} is new, so say which column is its label; the last are {names}"
            )
        try:
            return self.create(name, infer_schema(table, known), rules=rules)
        except AlreadyExists:  # somebody was quicker
            return self.get(name)

    def _send(self, dataset: Dataset, table: pa.Table, progress: Progress) -> list[str]:
        """Send the table; return the ids of its batches, which follow from their content."""
        from holdtrue.producer import Producer  # noqa: PLC0415
        from holdtrue.tables import payloads  # noqa: PLC0415

        batches: list[str] = []
        sent = 0
        with Producer(self._connection, self, buffer_bytes=_BUFFER_BYTES) as out:
            for rows, payload in payloads(table):
                batches.append(_batch_id(dataset.dataset_id, len(batches), payload))
                out.offer(
                    RecordsOffered(
                        dataset_id=dataset.dataset_id,
                        batch_id=batches[-1],
                        format=RecordFormat.RECORD_FORMAT_ARROW,
                        rows=rows,
                        inline=payload,
                    ),
                    rows,
                )
                sent += rows
                progress(f"sent {sent:,} of {table.num_rows:,} rows")
        return batches


def _batch_id(dataset_id: str, number: int, payload: bytes) -> str:
    """Return a UUIDv8 made of the batch's content and place."""
    digest = hashlib.sha256(f"{dataset_id}/{number}/".encode() + payload).digest()[:16]
    return str(
        uuid.UUID(bytes=digest[:6] + bytes([0x80 | digest[6] & 0x0F, digest[7], 0x80 | digest[8] & 0x3F]) + digest[9:])
    )


def _refuse_late_rules(dataset: Dataset | None, rules: str) -> None:
    if dataset is not None and rules:
        raise InvalidArgument(
            f"rules: dataset {dataset.name} exists; put them in force by themselves, with a reason",
            hint=f'holdtrue datasets rules {dataset.name} FILE --reason "…"',
        )


def _refuse_other_roles(dataset: Dataset, roles: Roles) -> None:
    schema = dataset.schema
    for name in sorted(roles.personal - {column.name for column in schema.columns if column.pii}):
        raise InvalidArgument(
            f"personal: column {name} of dataset {dataset.name} is not personal, and its rows are there already: "
            "make a new dataset"
        )
    for role, given, actual in (
        ("label", roles.label, schema.label),
        ("time", roles.time, schema.time),
        ("subject", roles.subject, schema.subject),
    ):
        if given and given != actual:
            raise InvalidArgument(f"{role}: dataset {dataset.name} has {actual or 'none'}, not {given}; leave it out")


def _added(answer: PublishVersionResponse, offered: int) -> Added:
    if not answer.HasField("version"):
        reasons = "; ".join(answer.examples[:3])
        raise InvalidArgument(f"all {offered} rows were refused: {reasons}", reason="ALL_REFUSED")
    return Added(answer.version, offered, dict(answer.quarantined), tuple(answer.examples))
