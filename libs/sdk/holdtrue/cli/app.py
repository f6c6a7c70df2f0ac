"""All commands by name; a command's module is imported when it runs."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from cyclopts import App, CycloptsError

from holdtrue.cli import failure
from holdtrue.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "holdtrue.commands"
"""Entry points of this group are commands, too: how the local platform adds `up`, `models.inspect` and others."""

Commands = dict[str, "tuple[str, str] | tuple[str, Commands]"]

_HERE = "holdtrue.cli"
COMMANDS: Commands = {
    "datasets": (
        "Datasets and their versions",
        {
            "add": (f"{_HERE}.datasets:add", "Add the rows of a file"),
            "list": (f"{_HERE}.datasets:list_", "List the datasets"),
            "show": (f"{_HERE}.datasets:show", "Show a dataset's versions, or one of them"),
            "commits": (f"{_HERE}.history:commits", "Show what a dataset's versions are made of"),
            "diff": (f"{_HERE}.history:diff", "Show what changed from one version to another"),
            "retract": (f"{_HERE}.history:retract", "Take bad commits out"),
            "rollback": (f"{_HERE}.history:rollback", "Return to the rows of an older version"),
            "clear": (f"{_HERE}.suspicion:clear", "Let a suspect version be used"),
            "pins": (f"{_HERE}.expiry:pins", "Show why versions are kept"),
            "pin": (f"{_HERE}.expiry:pin", "Keep a version"),
            "unpin": (f"{_HERE}.expiry:unpin", "Withdraw a pin"),
            "expire": (f"{_HERE}.expiry:expire", "Forget old versions that nobody wants to keep"),
            "rules": (f"{_HERE}.rules:rules", "Show the rules in force, or put others in force"),
            "erase-subject": (f"{_HERE}.erasure:erase_subject", "Erase a person from all datasets"),
            "erasures": (f"{_HERE}.erasure:erasures", "Show the erasures of persons, with their proofs"),
        },
    ),
    "data": (
        "What data is like, and what was refused",
        {
            "infer": (f"{_HERE}.data:infer", "Propose schema and rules from a sample"),
            "rejects": (f"{_HERE}.data:rejects", "Show the records that were refused, and why"),
            "replay": (f"{_HERE}.replay:replay", "Offer refused records again"),
        },
    ),
    "train": (f"{_HERE}.train:train", "Train a model on a dataset, through its gate"),
    "runs": (
        "Training runs",
        {
            "list": (f"{_HERE}.runs:list_", "List the runs, newest first"),
            "show": (f"{_HERE}.runs:show", "Show a run"),
        },
    ),
    "models": (
        "Models and their versions",
        {
            "list": (f"{_HERE}.models:list_", "List the models"),
            "show": (f"{_HERE}.models:show", "Show a model's versions, or one with its checks"),
            "register": (f"{_HERE}.register:register", "Bring a model from elsewhere, through its gate"),
        },
    ),
    "deploy": (f"{_HERE}.deploy:deploy", "Roll a version out, step by step"),
    "rollout": ("Rollouts", {"show": (f"{_HERE}.rollout:show", "Show how a rollout goes")}),
    "rollback": (f"{_HERE}.rollback:rollback", "Return to the version before"),
    "predict": (f"{_HERE}.predict:predict", "Ask a deployed model"),
    "labels": ("What turned out to be true", {"add": (f"{_HERE}.labels:add", "Tell labels of predictions")}),
    "alerts": (
        "Alerts",
        {
            "list": (f"{_HERE}.alerts:list_", "List the alerts"),
            "watch": (f"{_HERE}.alerts:watch", "Show alerts as they come"),
        },
    ),
    "events": (
        "Events",
        {
            "tail": (f"{_HERE}.events:tail", "Show events as they come"),
            "dlq": (
                "Events that nobody could handle",
                {
                    "list": (f"{_HERE}.dead_letters:list_", "List them with their reasons"),
                    "replay": (f"{_HERE}.dead_letters:replay", "Publish them again"),
                },
            ),
        },
    ),
}


def run(arguments: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    try:
        result = build(arguments)(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return failure.misused(error, arguments)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        return failure.pipe_closed()
    except Exception as error:  # noqa: BLE001  whatever it is, people get a sentence
        return failure.report(error, arguments)
    return result if isinstance(result, int) else Exit.OK


def build(arguments: Sequence[str]) -> App:
    """Return the command with what `arguments` need: one line about each command, or one command's own help."""
    app = App(
        name="holdtrue",
        help="Keep machine-learning models honest.",
        help_format="plaintext",
        help_epilogue="Every command has --help with examples. Results go to stdout, talk to stderr.",
        version_flags=["--version"],
    )
    overview = _asks_for_overview(arguments)
    _add(app, _all_commands(overview=overview), arguments, overview=overview)
    return app


def _all_commands(*, overview: bool) -> Commands:
    """Return our commands and those of entry points; a name with a dot joins one of our groups."""
    commands = dict(COMMANDS)
    for point in entry_points(group=GROUP):
        command = (point.value, _summary(point.value) if overview else "")
        group, _, name = point.name.rpartition(".")
        if group:
            title, members = cast("tuple[str, Commands]", commands[group])
            commands[group] = (title, members | {name: command})
        else:
            commands[name] = command
    return commands


def _add(app: App, commands: Commands, words: Sequence[str], *, overview: bool) -> None:
    for name, (first, second) in commands.items():
        named = bool(words) and words[0] == name
        if isinstance(second, dict):
            group = App(name=name, help=first)
            _add(group, second, words[1:] if named else (), overview=overview)
            app.command(group)
        elif overview:
            app.command(first, name=name, help=second)
        else:
            app.command(first, name=name, **({"help_epilogue": _examples(first)} if named else {}))


def _asks_for_overview(arguments: Sequence[str]) -> bool:
    """Whether the arguments name a group, or nothing, instead of a command that can run."""
    commands: Commands | str = COMMANDS
    for word in arguments:
        if isinstance(commands, str) or word.startswith("-"):
            break
        if word not in commands:
            return False
        commands = commands[word][1]
    return not isinstance(commands, str)


def _summary(path: str) -> str:
    return _docstring(path).partition("\n")[0].rstrip(".")


def _examples(path: str) -> str:
    """Return the section "Examples" of a command's docstring."""
    _, _, rest = _docstring(path).partition("Examples:\n")
    lines = rest.partition("\n\n")[0]
    return f"Examples:\n{lines}" if rest else ""


def _docstring(path: str) -> str:
    module, _, name = path.partition(":")
    return inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
