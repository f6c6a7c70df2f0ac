"""Rules ↔ YAML. Everything that is wrong with a file is told at once, each with its line and key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec
import yaml

from holdtrue_lake.rules import ColumnRules, Condition, EventTime, Expectation, Rules, Unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Path = tuple[str | int, ...]

MOST_BYTES = 1 << 20
MOST_DEPTH = 20
_TOP = {"version", "dataset", "label", "time", "subject"}
_LISTS: dict[str, Any] = {"unique": Unique, "conditions": Condition, "expectations": Expectation}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a rules file; `line` counts from 1, 0 where there is none."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        """Say where and what."""
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.key}: {self.message}" if self.key else f"{place}{self.message}"


class RulesInvalid(Exception):
    """A rules file cannot be used; `problems` are all that were found, by line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems; the text has one a line."""
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class Document:
    """A rules file: its text's `rules`, and the line of every key."""

    def __init__(self, text: str) -> None:
        """Read it. Raises RulesInvalid."""
        self._lines: dict[Path, int] = {}
        content = _Reader(self._lines).read(text)
        if not isinstance(content, dict):
            raise RulesInvalid([Problem(1, "", f"expected keys such as version and columns, got {_kind(content)}")])
        self._problems: list[Problem] = []
        self.rules = self._rules(cast("dict[str, Any]", content))

    def problem(self, path: Path, message: str) -> Problem:
        """Name the place in the file: the line of the path, or of the nearest key above it."""
        nearest = path
        while nearest and nearest not in self._lines:
            nearest = nearest[:-1]
        return Problem(self._lines.get(nearest, 1), _dotted(path), message)

    def located(self, error: RulesInvalid) -> RulesInvalid:
        """Add the lines of this file to what compiling its rules found."""
        by_key = {_dotted(path): path for path in self._lines}
        return RulesInvalid([self.problem(by_key.get(each.key, (each.key,)), each.message) for each in error.problems])

    def _rules(self, content: dict[str, Any]) -> Rules:
        known = {*_TOP, *_LISTS, "columns", "event_time"}
        self._problems += [
            self.problem((key,), f"unknown key; known are {', '.join(sorted(known))}") for key in content.keys() - known
        ]
        plain = self._converted({key: content[key] for key in content.keys() & _TOP}, Rules, ())
        columns = {
            name: self._converted(value, ColumnRules, ("columns", name))
            for name, value in self._entries(content, "columns", dict)
        }
        times = content.get("event_time")
        parts: dict[str, Any] = {
            key: [self._converted(value, kind, (key, i)) for i, value in self._entries(content, key, list)]
            for key, kind in _LISTS.items()
        }
        parts["event_time"] = None if times is None else self._converted(times, EventTime, ("event_time",))
        if self._problems:
            raise RulesInvalid(self._problems)
        return msgspec.structs.replace(plain, columns=columns, **parts)

    def _entries(self, content: dict[str, Any], key: str, kind: type) -> Iterator[tuple[Any, Any]]:
        found = content.get(key)
        if found is None:
            return
        if not isinstance(found, kind):
            expected = "a key for each column" if kind is dict else "a list, each entry after a dash"
            self._problems.append(self.problem((key,), f"expected {expected}, got {_kind(found)}"))
            return
        yield from (cast("dict[str, Any]", found).items() if kind is dict else enumerate(cast("list[Any]", found)))

    def _converted(self, value: object, kind: Any, path: Path) -> Any:  # noqa: ANN401  whatever part of a file
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            steps = [int(n) if n else name for name, n in re.findall(r"\.(\w+)|\[(\d+)\]", where)]
            unknown = re.search(r"unknown field `(.*)`", what)
            place = (*path, *steps, *([unknown[1]] if unknown else []))
            self._problems.append(self.problem(place, what[:1].lower() + what[1:]))
            return None


def load(text: str) -> Rules:
    """Read a rules file. Raises RulesInvalid."""
    return Document(text).rules


def dump(rules: Rules) -> str:
    """Write a rules file; what has its default is left out."""
    return yaml.dump(msgspec.to_builtins(rules), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Reader:
    """YAML → plain values, by YAML 1.2's types: `NO` is a text, and only true and false are true and false.

    Aliases and repeated keys are refused: the former can make a small text huge, of the latter one would be ignored.
    """

    def __init__(self, lines: dict[Path, int]) -> None:
        self._lines = lines

    def read(self, text: str) -> object:
        if len(text.encode()) > MOST_BYTES:
            raise RulesInvalid([Problem(0, "", f"expected at most {MOST_BYTES} bytes, got {len(text.encode())}")])
        try:
            node = _Loader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise RulesInvalid([Problem(line, "", f"expected YAML: {error.problem or error.context}")]) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise RulesInvalid([Problem(0, "", f"expected YAML: {' '.join(str(error).split())}")]) from error
        return None if node is None else self._value(node, ())

    def _value(self, node: yaml.Node, path: Path) -> object:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > MOST_DEPTH:
            raise RulesInvalid([Problem(node.start_mark.line + 1, "", f"expected at most {MOST_DEPTH} levels")])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(cast("list[tuple[yaml.Node, yaml.Node]]", node.value), path)
        if isinstance(node, yaml.SequenceNode):
            items = cast("list[yaml.Node]", node.value)
            return [self._value(item, (*path, i)) for i, item in enumerate(items)]
        return _scalar(cast("yaml.ScalarNode", node))

    def _mapping(self, pairs: list[tuple[yaml.Node, yaml.Node]], path: Path) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in pairs:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RulesInvalid([Problem(line, _dotted(path), "expected a text as key")])
            name = str(key.value)
            if name in values:
                raise RulesInvalid([Problem(line, _dotted((*path, name)), "given twice; keep one of them")])
            self._lines[*path, name] = line
            values[name] = self._value(value, (*path, name))
        return values


class _Loader(yaml.SafeLoader):
    """Nodes only; the values are made by `_scalar`."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = cast("Any", self).peek_event()
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not read; write it out", event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader would take for something else than a text."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        plain = isinstance(_scalar(yaml.ScalarNode("", text)), str)
        style = '"' if not text.isprintable() else None if plain else "'"
        return cast("Any", self).represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)

_CORE: tuple[tuple[str, Callable[[str], object]], ...] = (
    (r"|~|null|Null|NULL", lambda _: None),
    (r"true|True|TRUE", lambda _: True),
    (r"false|False|FALSE", lambda _: False),
    (r"[-+]?[0-9]{1,400}", int),
    (r"0x[0-9a-fA-F]{1,300}", lambda text: int(text, 16)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
)


def _scalar(node: yaml.ScalarNode) -> object:
    text = str(node.value)
    if node.style in {"'", '"', "|", ">"}:
        return text
    return next((make(text) for pattern, make in _CORE if re.fullmatch(pattern, text)), text)


def _dotted(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _kind(value: object) -> str:
    names: dict[type, str] = {dict: "keys", list: "a list", str: "a text", type(None): "nothing"}
    return names.get(type(value), "a value")
