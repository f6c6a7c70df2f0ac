"""A small language for conditions between the fields of a record: `shipped is null or shipped >= ordered`.

Comparisons (also chained), + - * /, and, or, not, `is null`, `is not null`, numbers, quoted texts, true, false; a
column whose name is no identifier is written column("its name"). Python's parser reads it; an allow-list of its nodes
is compiled to functions on Arrow columns; nothing is ever evaluated as Python.

Logic has three values, as in SQL: what is compared with a null is unknown, `unknown and false` is false. NaN is null.
Arithmetic is done in float64, so it cannot wrap around; x / 0 is unknown.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Value = pa.Array | pa.Scalar
    Read = Callable[[str], pa.Array]
    """Gives a column of the batch, with null where it has NaN."""
    Evaluate = Callable[[Read], Any]

Kind = Literal["a number", "a text", "true or false", "a time", "a time without zone"]

MOST_CHARACTERS = 2_000
MOST_DEPTH = 40
_COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
}
_SYMBOLS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}
_CONSTANTS = {"true": True, "false": False, "True": True, "False": False}


class InvalidExpression(Exception):
    """The text is not a condition of this language; says at which character, what was expected and what is there."""


@dataclass(frozen=True)
class Expression:
    """A compiled condition: `evaluate(read)` is a boolean Arrow array, null where it is unknown."""

    text: str
    columns: tuple[str, ...]
    evaluate: Callable[[Read], pa.Array]


@dataclass(frozen=True)
class _Part:
    kind: Kind
    evaluate: Evaluate
    literal: bool = False


def compile_expression(text: str, types: Mapping[str, pa.DataType]) -> Expression:
    """Compile a condition on columns of these types. Raises InvalidExpression."""
    if len(text) > MOST_CHARACTERS:
        raise InvalidExpression(f"expected at most {MOST_CHARACTERS} characters, got {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        place = f"at character {error.offset or len(text) + 1}: " if isinstance(error, SyntaxError) else ""
        raise InvalidExpression(f"{place}expected a condition such as `amount >= 0 and country != 'XX'`") from error
    compiler = _Compiler(types)
    part = compiler.part(tree.body, 0)
    if part.kind != "true or false":
        raise InvalidExpression(f"expected a condition, which is true or false, got {part.kind}")
    if not compiler.columns:
        raise InvalidExpression("expected a condition on at least one column, got one on none")
    return Expression(text, tuple(compiler.columns), part.evaluate)


class _Compiler:
    """Node of Python's syntax tree → function on columns; `columns` are those that were met, in order."""

    def __init__(self, types: Mapping[str, pa.DataType]) -> None:
        self._types = types
        self.columns: dict[str, None] = {}

    def part(self, node: ast.expr, depth: int) -> _Part:
        if depth > MOST_DEPTH:
            raise InvalidExpression(f"expected at most {MOST_DEPTH} levels of nesting")
        match node:
            case ast.BoolOp():
                return self._logic(node, depth)
            case ast.UnaryOp():
                return self._unary(node, depth)
            case ast.BinOp():
                return self._arithmetic(node, depth)
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Constant():
                return _constant(node)
            case ast.Name() | ast.Call():
                return self._column(node)
            case _:
                raise _wrong(node, "a comparison, arithmetic, and, or, not, a column or a value", _snippet(node))

    def _logic(self, node: ast.BoolOp, depth: int) -> _Part:
        combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        return _folded(combine, [self._a(value, "true or false", depth).evaluate for value in node.values])

    def _unary(self, node: ast.UnaryOp, depth: int) -> _Part:
        if isinstance(node.op, ast.Not):
            condition = self._a(node.operand, "true or false", depth).evaluate
            return _Part("true or false", lambda read: pc.invert(condition(read)))
        if not isinstance(node.op, ast.USub):
            raise _wrong(node, "not, or a minus sign", _snippet(node))
        match node.operand:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return _constant(ast.copy_location(ast.Constant(-number), node))
            case _:
                pass
        operand = self._a(node.operand, "a number", depth)
        return _Part("a number", lambda read: pc.negate(_double(operand.evaluate(read))), operand.literal)

    def _arithmetic(self, node: ast.BinOp, depth: int) -> _Part:
        operate = _ARITHMETIC.get(type(node.op))
        if operate is None:
            raise _wrong(node, "one of + - * /", _snippet(node))
        left, right = self._a(node.left, "a number", depth), self._a(node.right, "a number", depth)

        def evaluate(read: Read) -> Value:
            return known(operate(_double(left.evaluate(read)), _double(right.evaluate(read))))

        return _Part("a number", evaluate, left.literal and right.literal)

    def _comparison(self, node: ast.Compare, depth: int) -> _Part:
        operands = [node.left, *node.comparators]
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        return _folded(pc.and_kleene, [self._pair(left, op, right, depth) for left, op, right in pairs])

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr, depth: int) -> Evaluate:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return self._is_null(left, right, depth, negated=isinstance(op, ast.IsNot))
        compare = _COMPARE.get(type(op))
        if compare is None:
            raise _wrong(left, "one of < <= > >= == !=, or `is null`", type(op).__name__.lower())
        a, b = self.part(left, depth + 1), self.part(right, depth + 1)
        if a.kind != b.kind or (a.kind == "true or false" and not isinstance(op, (ast.Eq, ast.NotEq))):
            raise _wrong(left, f"two comparable values around {_SYMBOLS[type(op)]}", f"{a.kind} and {b.kind}")
        return lambda read: compare(*_alike(a, a.evaluate(read), b, b.evaluate(read)))

    def _is_null(self, left: ast.expr, right: ast.expr, depth: int, *, negated: bool) -> Evaluate:
        null = (isinstance(right, ast.Name) and right.id == "null") or (
            isinstance(right, ast.Constant) and right.value is None
        )
        if not null:
            raise _wrong(right, "null after is", _snippet(right))
        value = self.part(left, depth + 1).evaluate
        return (lambda read: pc.is_valid(value(read))) if negated else (lambda read: pc.is_null(value(read)))

    def _column(self, node: ast.Name | ast.Call) -> _Part:
        name = node.id if isinstance(node, ast.Name) else _quoted_name(node)
        if isinstance(node, ast.Name) and name in _CONSTANTS:
            return _Part("true or false", _always(_CONSTANTS[name]), literal=True)
        if name not in self._types:
            raise _wrong(node, f"one of the columns {', '.join(sorted(self._types)[:20])}", repr(name))
        self.columns[name] = None
        return _Part(_kind(self._types[name], name), lambda read: read(name))

    def _a(self, node: ast.expr, kind: Kind, depth: int) -> _Part:
        part = self.part(node, depth + 1)
        if part.kind != kind:
            raise _wrong(node, kind, f"{part.kind} ({_snippet(node)})")
        return part


def known(values: Value) -> Value:
    """Null in place of NaN and of what dividing by zero gives."""
    if isinstance(values, pa.Scalar):
        number = values.as_py()
        return values if number is None or abs(number) < float("inf") else pa.scalar(None, values.type)
    return pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))


def _folded(combine: Callable[..., Any], parts: list[Evaluate]) -> _Part:
    def evaluate(read: Read) -> Value:
        total = parts[0](read)
        for part in parts[1:]:
            total = combine(total, part(read))
        return total

    return _Part("true or false", evaluate)


def _constant(node: ast.Constant) -> _Part:
    match node.value:
        case bool():
            return _Part("true or false", _always(node.value), literal=True)
        case int() if not -(2**63) <= node.value < 2**63:
            raise _wrong(node, "a whole number of 64 bits", _snippet(node))
        case int() | float():
            return _Part("a number", _always(node.value), literal=True)
        case str():
            return _Part("a text", _always(node.value), literal=True)
        case _:
            raise _wrong(node, "a number, a quoted text, true or false", _snippet(node))


def _always(value: object) -> Evaluate:
    scalar = pa.scalar(value)
    return lambda _: scalar


def _quoted_name(node: ast.Call) -> str:
    match node:
        case ast.Call(func=ast.Name(id="column"), args=[ast.Constant(value=str(name))], keywords=[]):
            return name
        case _:
            raise _wrong(node, 'a column, or column("its name")', _snippet(node))


def _kind(kind: pa.DataType, name: str) -> Kind:
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "a text"
    if pa.types.is_timestamp(kind):
        return "a time" if kind.tz else "a time without zone"
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return "a number"
    raise InvalidExpression(f"column {name!r} is {kind}, which cannot be compared")


def _double(value: Value) -> Value:
    return (
        value.cast(pa.float64(), safe=False) if isinstance(value, pa.Array) else pa.scalar(value.as_py(), pa.float64())
    )


def _alike(a: _Part, left: Value, b: _Part, right: Value) -> tuple[Value, Value]:
    """Bring both sides to one type of number; Arrow's own casts refuse whole numbers that float64 has to round.

    A literal beside a float32 column means the nearest float32: 0.1 equals the 0.1 that the column holds.
    """
    if a.kind != "a number" or left.type == right.type:
        return left, right
    if left.type == pa.float32() and b.literal:
        return left, pa.scalar(right.as_py(), pa.float64()).cast(pa.float32())
    if right.type == pa.float32() and a.literal:
        return pa.scalar(left.as_py(), pa.float64()).cast(pa.float32()), right
    if pa.types.is_signed_integer(left.type) and pa.types.is_signed_integer(right.type):
        return left, right
    return _double(left), _double(right)


def _snippet(node: ast.AST) -> str:
    text = ast.unparse(node)
    return f"`{text[:60]}`"


def _wrong(node: ast.AST, expected: str, got: str) -> InvalidExpression:
    column: int = getattr(node, "col_offset", 0)
    return InvalidExpression(f"at character {column + 1}: expected {expected}, got {got}")
