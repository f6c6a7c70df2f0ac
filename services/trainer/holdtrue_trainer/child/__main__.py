"""The child: train in the current folder, say on standard output where it is, leave the result."""

from __future__ import annotations

import sys
from pathlib import Path

from holdtrue_trainer.child import exchange
from holdtrue_trainer.child.exchange import Refusal, Result, Stage
from holdtrue_trainer.domain.run import Failure


def announce(stage: Stage) -> None:
    """Tell the trainer where the run is: one line on standard output."""
    sys.stdout.write(f"{stage}\n")
    sys.stdout.flush()


def attempt(folder: Path) -> Result:
    """Train, and turn what can go wrong for a reason into a refusal; anything else ends the process with its trace."""
    from holdtrue_models.errors import ModelError  # noqa: PLC0415 - a lack of memory here is a result, too

    from holdtrue_trainer.child.train import train  # noqa: PLC0415
    from holdtrue_trainer.domain.recipe import RecipeError  # noqa: PLC0415
    from holdtrue_trainer.domain.split import DataError  # noqa: PLC0415

    try:
        return train(folder, announce)
    except DataError as error:
        return Refusal(failure=Failure.DATA, message=str(error))
    except (RecipeError, ModelError) as error:
        return Refusal(failure=Failure.USER_ERROR, message=str(error))


def main(folder: Path) -> None:
    """Write the result."""
    try:
        result = attempt(folder)
    except MemoryError:
        result = Refusal(
            failure=Failure.OUT_OF_MEMORY,
            message="training needs more memory than a run may have; use fewer rows or a smaller model",
        )
    (folder / exchange.RESULT).write_bytes(exchange.encode(result))


if __name__ == "__main__":
    main(Path.cwd())
