"""Rules of datasets, all that ever were in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from asyncpg import Record
    from holdtrue_storage.database import Transaction

_COLUMNS = "number, digest, rules, reason, created_at"


@dataclass(frozen=True)
class RuleSet:
    """A rules file as it was put in force; `digest` is of its canonical form."""

    number: int
    digest: str
    rules: str
    reason: str
    created_at: datetime


class RuleStore:
    """Reads and writes rules of the transaction's tenant."""

    def __init__(self, tx: Transaction) -> None:
        """Work in this transaction."""
        self._tx = tx
        self._tenant = tx.actor.tenant

    async def add(self, dataset_id: str, digest: str, rules: str, reason: str) -> RuleSet:
        """Put rules in force, under the dataset's lock."""
        row = await self._tx.fetchrow(
            f"""INSERT INTO dataset_rules (tenant, dataset_id, number, digest, rules, reason, actor)
            SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6
            FROM dataset_rules WHERE tenant = $1 AND dataset_id = $2 RETURNING {_COLUMNS}""",  # noqa: S608  our columns
            self._tenant,
            dataset_id,
            digest,
            rules,
            reason,
            self._tx.actor.to_header().decode(),
        )
        await self._tx.execute(
            "UPDATE dataset SET rules_digest = $3 WHERE tenant = $1 AND id = $2", self._tenant, dataset_id, digest
        )
        if row is None:
            raise RuntimeError("an INSERT … RETURNING gave no row")
        return RuleSet(**row)

    async def newest(self, dataset_id: str) -> RuleSet | None:
        """Return the rules in force."""
        return _rule_set(
            await self._tx.fetchrow(
                f"""SELECT {_COLUMNS} FROM dataset_rules
                WHERE tenant = $1 AND dataset_id = $2 ORDER BY number DESC LIMIT 1""",  # noqa: S608  our columns
                self._tenant,
                dataset_id,
            )
        )

    async def get(self, dataset_id: str, number: int) -> RuleSet | None:
        """Return the rules of that number."""
        return _rule_set(
            await self._tx.fetchrow(
                f"SELECT {_COLUMNS} FROM dataset_rules WHERE tenant = $1 AND dataset_id = $2 AND number = $3",  # noqa: S608
                self._tenant,
                dataset_id,
                number,
            )
        )


def _rule_set(row: Record | None) -> RuleSet | None:
    return RuleSet(**row) if row else None
