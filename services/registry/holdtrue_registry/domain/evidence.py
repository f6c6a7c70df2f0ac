"""The document that keeps why a version was let through or not."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from holdtrue_contracts.trainer.v1.runs_pb2 import RunSucceeded

    from holdtrue_registry.domain.gate import Policy, Verdict

_FORMAT = "holdtrue gate evidence 1"


def evidence(policy: Policy, run: RunSucceeded, verdict: Verdict) -> bytes:
    """Return the evidence as canonical JSON: the same evidence has the same bytes, and so the same digest."""
    document: dict[str, Any] = {
        "format": _FORMAT,
        "policy": asdict(policy),
        "run_id": run.spec.run_id,
        "dataset_id": run.spec.dataset_id,
        "dataset_version": run.spec.dataset_version,
        "holdout_ns": [run.holdout_from_ns, run.holdout_to_ns],
        "manifest_digest": run.manifest_digest,
        "candidate": _plain(run.candidate),
        "champion": _plain(run.champion) if run.HasField("champion") else None,
        "cells": _plain(run.cells) if run.HasField("cells") else None,
        "verdict": verdict.state.value,
        "checks": [_plain(check) for check in verdict.checks],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
