"""Ids, from the contracts: services take them from the chassis."""

from holdtrue_contracts.ids import uuid7, uuid7_bytes

__all__ = ["uuid7", "uuid7_bytes"]
