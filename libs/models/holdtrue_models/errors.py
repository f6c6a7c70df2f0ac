"""What can be wrong with a model.

ModelError
├── MalformedModel     the bytes are not what they claim to be
├── UnsafeModel        loading it could harm the process: a limit of safe loading is broken
├── UnsupportedModel   nothing here can convert or serve it
├── WrongInput         rows do not fit the model's signature
├── ParityError        the served form answers differently from the source
└── WorkerAway         the process of the model is not there at the moment, or has failed for good
"""


class ModelError(ValueError):
    """Something is wrong with a model; the text says what, where, and what to do."""


class MalformedModel(ModelError):
    """The bytes are not what they claim to be."""


class UnsafeModel(ModelError):
    """A limit of safe loading is broken; the model was not loaded."""


class UnsupportedModel(ModelError):
    """Nothing here can convert or serve the model."""


class WrongInput(ModelError):
    """Rows do not fit the model's signature."""


class ParityError(ModelError):
    """The served form answers differently from the source, or from what its maker recorded."""


class WorkerAway(ModelError):
    """The process of the model died or is being started again; `failed`: it will not come back."""

    def __init__(self, text: str, *, failed: bool = False) -> None:
        """Say what happened to it."""
        super().__init__(text)
        self.failed = failed
