"""Methods about the rules of datasets."""
# ruff: noqa: N802  methods are named by the protocol

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pyarrow as pa
from holdtrue_contracts.registry.v1 import rules_pb2 as pb
from holdtrue_core.errors import InvalidArgument, NotFound
from holdtrue_core.rpc import actor_of, timestamp
from holdtrue_lake.infer import NotInferable, dataset_schema, infer
from holdtrue_lake.rules import rules_digest
from holdtrue_lake.rules_yaml import dump

from holdtrue_registry.commands import put_rules
from holdtrue_registry.rpc.methods import DatasetMethods, find, reason_of
from holdtrue_registry.rules import checked
from holdtrue_registry.store.rules import RuleSet, RuleStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from holdtrue_core.rpc import ServicerContext

MOST_SAMPLE_BYTES = 256 << 20


class RuleMethods(DatasetMethods):
    """Rules in force, and proposing some."""

    async def PutRules(self, request: pb.PutRulesRequest, context: ServicerContext) -> pb.PutRulesResponse:
        """Put rules in force for what is ingested from now on."""
        reason = reason_of(request, "say why the rules change; it is kept with them")
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            rules = checked(dataset.name, dataset.schema, request.rules)
            if request.dry_run:
                newest = await RuleStore(tx).newest(dataset.id)
                return pb.PutRulesResponse(rule_set=_proposed(newest, rules_digest(rules), request))
            put = await put_rules(tx, self._blobs, dataset, rules, request.rules, reason)
        return pb.PutRulesResponse(rule_set=_view(put))

    async def GetRules(self, request: pb.GetRulesRequest, context: ServicerContext) -> pb.GetRulesResponse:
        """Return the rules in force, or earlier ones."""
        async with self._outbox.transaction(actor_of(context)) as tx:
            dataset = await find(tx, request.dataset)
            store = RuleStore(tx)
            found = await (store.get(dataset.id, request.number) if request.number else store.newest(dataset.id))
        if found is None:
            which = f"rules number {request.number}" if request.number else "rules, its schema alone counts"
            raise NotFound(f"dataset {dataset.name!r} has no {which}", reason="NO_RULES")
        return pb.GetRulesResponse(rule_set=_view(found))

    async def InferRules(
        self, request_iterator: AsyncIterator[pb.InferRulesRequest], context: ServicerContext
    ) -> pb.InferRulesResponse:
        """Propose schema and rules from a sample."""
        actor_of(context)
        parts: list[bytes] = []
        label = time = ""
        async for request in request_iterator:
            if not parts:
                label, time = request.label, request.time
            parts.append(request.rows)
            if sum(map(len, parts)) > MOST_SAMPLE_BYTES:
                raise InvalidArgument.of("rows", f"expected at most {MOST_SAMPLE_BYTES:,} bytes; send fewer rows")
        return await asyncio.to_thread(_inferred, parts, label, time)


def _inferred(parts: list[bytes], label: str, time: str) -> pb.InferRulesResponse:
    try:
        sample = pa.concat_tables([_rows(part) for part in parts])
        sample.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidArgument.of("rows", f"expected Arrow IPC streams with the same columns: {error}") from error
    try:
        rules = infer(sample, label, time)
        return pb.InferRulesResponse(schema=dataset_schema(rules), rules=dump(rules), rows=sample.num_rows)
    except NotInferable as error:
        raise InvalidArgument.of("rows", str(error)) from error


def _rows(part: bytes) -> pa.Table:
    with pa.ipc.open_stream(part) as reader:
        return reader.read_all()


def _proposed(newest: RuleSet | None, digest: str, request: pb.PutRulesRequest) -> pb.RuleSet:
    """Return what would be in force."""
    if newest and newest.digest == digest:
        return _view(newest)
    return pb.RuleSet(
        number=newest.number + 1 if newest else 1, digest=digest, rules=request.rules, reason=request.reason
    )


def _view(found: RuleSet) -> pb.RuleSet:
    return pb.RuleSet(
        number=found.number,
        digest=found.digest,
        rules=found.rules,
        reason=found.reason,
        created_at=timestamp(found.created_at),
    )
