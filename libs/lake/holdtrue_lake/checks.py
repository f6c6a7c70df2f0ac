"""Record rules of a dataset, compiled for its columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from holdtrue_lake.column_checks import column_checks, unique
from holdtrue_lake.expressions import InvalidExpression, compile_expression
from holdtrue_lake.faults import Code
from holdtrue_lake.rules import ColumnRules, Rules
from holdtrue_lake.rules_yaml import Problem, RulesInvalid
from holdtrue_lake.views import Check, Finding, true

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from holdtrue_lake.expressions import Expression
    from holdtrue_lake.payload import Mask
    from holdtrue_lake.rules import Condition
    from holdtrue_lake.views import View

_DEFAULT = ColumnRules()


@dataclass(frozen=True)
class Checker:
    """Rules compiled for columns of given types."""

    rules: Rules
    checks: tuple[Check, ...] = ()

    def column(self, name: str) -> ColumnRules:
        """Rules on the column itself; without any it is required and never null."""
        return self.rules.columns.get(name, _DEFAULT)

    def findings(
        self, view: View, present: Callable[[str], bool], earlier: Sequence[Finding] = ()
    ) -> Iterator[Finding]:
        """Apply every check whose columns are all `present`, after those whose findings are `earlier`.

        A condition says nothing about a record of whose fields one is wrong already. Uniqueness is judged among the
        records that break no other kind of rule: a corrected record is no duplicate of the refused one before it.
        """
        wrong: dict[str, Mask] = {}
        _note(earlier, view, wrong)
        first = [check for check in self.checks if check.code is not Code.DUPLICATE]
        yield from _applied(first, view, present, wrong)
        view.candidates = ~view.bad
        yield from _applied([c for c in self.checks if c.code is Code.DUPLICATE], view, present, wrong)


def compile_rules(rules: Rules, types: Mapping[str, pa.DataType], secret: frozenset[str] = frozenset()) -> Checker:
    """Compile rules for columns of these types. Raises RulesInvalid with everything that does not fit them.

    Values of the `secret` columns and of those marked `pii` are not shown in messages.
    """
    problems: list[Problem] = []
    hidden = secret | {name for name, column in rules.columns.items() if column.pii}
    checks: list[Check] = []
    for name, column in rules.columns.items():
        if name in types:
            checks += column_checks(name, column, types[name], problems)
        else:
            problems.append(Problem(0, f"columns.{name}", f"there is no such column; there are {_some(types)}"))
    checks += _conditions(rules.conditions, types, problems)
    checks += _unique_checks(rules, types, problems)
    problems += _repeated_ids(rules)
    if problems:
        raise RulesInvalid(problems)
    return Checker(rules, tuple(replace(c, secret=not hidden.isdisjoint(c.columns)) for c in checks))


def _applied(
    checks: Sequence[Check], view: View, present: Callable[[str], bool], wrong: dict[str, Mask]
) -> Iterator[Finding]:
    for check in checks:
        rows = check.broken(view) if all(map(present, check.columns)) else None
        if rows is not None and check.code is Code.RULE:
            rows = np.logical_and.reduce([rows, *(~wrong[name] for name in check.columns if name in wrong)])
        if rows is not None and rows.any():
            column = check.columns[0] if len(check.columns) == 1 else ""
            found = Finding(column, check.code, check.expected, rows, check.secret, check.rule, check.columns)
            _note([found], view, wrong)
            yield found


def _note(found: Sequence[Finding], view: View, wrong: dict[str, Mask]) -> None:
    for finding in found:
        view.bad |= finding.rows
        for name in finding.columns if finding.code is not Code.RULE else ():
            wrong[name] = wrong[name] | finding.rows if name in wrong else finding.rows


def _unique_checks(rules: Rules, types: Mapping[str, pa.DataType], problems: list[Problem]) -> Iterator[Check]:
    for index, rule in enumerate(rules.unique):
        unknown = [name for name in rule.columns if name not in types]
        if unknown:
            text = f"there is no column {unknown[0]!r}; there are {_some(types)}"
            problems.append(Problem(0, f"unique[{index}].columns", text))
        else:
            yield unique(rule.id, tuple(rule.columns))


def _conditions(
    conditions: list[Condition], types: Mapping[str, pa.DataType], problems: list[Problem]
) -> Iterator[Check]:
    for index, rule in enumerate(conditions):
        try:
            compiled = compile_expression(rule.condition, types)
        except InvalidExpression as error:
            problems.append(Problem(0, f"conditions[{index}].condition", str(error)))
        else:
            yield Check(rule.id, Code.RULE, compiled.columns, rule.condition, partial(_untrue, compiled))


def _untrue(expression: Expression, view: View) -> Mask | None:
    holds = pc.fill_null(expression.evaluate(view.values), False)
    return None if holds.true_count == view.rows else ~true(holds)


def _repeated_ids(rules: Rules) -> Iterator[Problem]:
    seen: set[str] = set()
    for key in ("unique", "conditions", "expectations"):
        for index, rule in enumerate(getattr(rules, key)):
            if rule.id in seen:
                yield Problem(0, f"{key}[{index}].id", f"two rules have the id {rule.id!r}")
            seen.add(rule.id)


def _some(types: Mapping[str, pa.DataType]) -> str:
    return ", ".join(list(types)[:20])
