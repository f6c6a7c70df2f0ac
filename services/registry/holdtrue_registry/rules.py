"""Rules of datasets: checked against the columns before they are put in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdtrue_core.errors import FieldViolation, InvalidArgument
from holdtrue_lake.expectations import expectation_problems
from holdtrue_lake.infer import NotInferable, dataset_schema
from holdtrue_lake.rules_yaml import Document, Problem, RulesInvalid
from holdtrue_lake.schema import schema_problems, table_schema
from holdtrue_lake.validation import compile_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdtrue_contracts.registry.v1.datasets_pb2 import DatasetSchema
    from holdtrue_lake.rules import Rules


def schema_of(text: str) -> DatasetSchema:
    """Return the schema that a rules file describes. Raises InvalidArgument."""
    try:
        return dataset_schema(Document(text).rules)
    except RulesInvalid as error:
        raise _invalid(error) from error
    except NotInferable as error:
        raise InvalidArgument.of("rules", str(error)) from error


def checked(name: str, schema: DatasetSchema, text: str) -> Rules:
    """Return the rules of a file, which fit a dataset. Raises InvalidArgument with everything that does not."""
    try:
        document = Document(text)
        try:
            compile_for(schema, document.rules)
        except RulesInvalid as error:
            raise document.located(RulesInvalid([*error.problems, *_misfits(name, schema, document.rules)])) from error
        if misfits := [*_misfits(name, schema, document.rules)]:
            raise document.located(RulesInvalid(misfits))
    except RulesInvalid as error:
        raise _invalid(error) from error
    return document.rules


def _misfits(name: str, schema: DatasetSchema, rules: Rules) -> Iterator[Problem]:
    for key, given, actual in (
        ("dataset", rules.dataset, name),
        ("label", rules.label, schema.label),
        ("time", rules.time, schema.time),
        ("subject", rules.subject, schema.subject),
    ):
        if given and given != actual:
            yield Problem(0, key, f"the dataset has {actual or 'none'}, got {given}")
    if not any(schema_problems(schema)):
        yield from expectation_problems(rules, table_schema(schema, protected=bool(schema.subject)))


def _invalid(error: RulesInvalid) -> InvalidArgument:
    violations = [FieldViolation(f"rules.{p.key}".rstrip("."), str(p)) for p in error.problems]
    return InvalidArgument(f"the rules cannot be used:\n{error}", reason="RULES_INVALID", violations=violations)
