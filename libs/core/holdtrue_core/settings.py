"""Settings from the environment.

A service derives one class from `ServiceSettings` and the mixins that it needs, and names its prefix:

    class RegistrySettings(ServiceSettings, DatabaseSettings, KafkaSettings):
        model_config = SettingsConfigDict(env_prefix="HOLDTRUE_REGISTRY_")
        grpc_port: int = 5001
        \"\"\"Port of the gRPC server.\"\"\"

Any field `x` may also be given as `<PREFIX>X_FILE`, the name of a file with the value: the way for secrets.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pydantic_settings
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

S = TypeVar("S", bound="Settings")
_FILE = "_FILE"
_MASK = "**********"


class SettingsError(Exception):
    """The environment does not make valid settings; the text has one line for each fault."""


class Settings(BaseSettings):
    """Base of all settings: read from the environment, frozen, every key known, one docstring per field."""

    model_config = SettingsConfigDict(
        env_prefix="HOLDTRUE_", frozen=True, extra="forbid", use_attribute_docstrings=True, env_ignore_empty=False
    )

    @classmethod
    def prefix(cls) -> str:
        """Return what the names of its environment variables begin with."""
        return cls.model_config.get("env_prefix", "")

    @classmethod
    def service(cls) -> str:
        """Return the service's name as the prefix says it: "registry" for `HOLDTRUE_REGISTRY_`."""
        return cls.prefix().removeprefix("HOLDTRUE_").rstrip("_").lower()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the base class names the parameters
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then variables, then files that variables name; no other source."""
        return init_settings, env_settings, _Files(settings_cls)


class _Files(PydanticBaseSettingsSource):
    """Values from the files that `<PREFIX><FIELD>_FILE` name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        variable = _variable(cast("type[Settings]", self.settings_cls), field_name)
        path = None if variable in os.environ else os.environ.get(variable + _FILE)
        return (None if path is None else Path(path).read_text(encoding="utf-8").rstrip("\n")), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class ServiceSettings(Settings):
    """What every service has."""

    host: str = "127.0.0.1"
    """Address that the servers bind to."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """Port of the gRPC server; 0: any free one."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the Prometheus metrics; 0: any free one."""
    tenant: str = "default"
    """Tenant that it works for."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""
    grace_seconds: float = Field(default=30.0, gt=0)
    """Seconds that a stop may take before the process gives up and exits non-zero."""


class DatabaseSettings(Settings):
    """For services with state in PostgreSQL."""

    postgres_dsn: SecretStr
    """DSN of the database, with the service's own role."""
    postgres_schema: str = ""
    """Schema of the service; empty: the service's name."""
    pool_size: int = Field(default=8, ge=1, le=1000)
    """Connections at most."""

    @model_validator(mode="before")
    @classmethod
    def _name_schema(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "postgres_schema": values.get("postgres_schema") or cls.service()}


class KafkaSettings(Settings):
    """For services that speak to Kafka."""

    kafka: str = "127.0.0.1:9092"
    """Bootstrap address, host:port."""
    kafka_prefix: str = ""
    """Prefix of all topic and group names."""
    instance_id: str = ""
    """Name of this process in its consumer groups, kept over restarts; empty: dynamic membership."""


class BlobSettings(Settings):
    """For services that read or write blobs."""

    blobs: Path
    """Folder of the content-addressed blobs."""


def load(cls: type[S]) -> S:
    """Return the settings that the environment describes; raises SettingsError with a line for each fault."""
    faults = list(_unknown(cls))
    try:
        settings = cls()
    except ValidationError as error:
        faults += [_fault(cls, item["loc"], item["msg"]) for item in error.errors()]
    except pydantic_settings.SettingsError as error:
        faults.append(_unreadable(cls, str(error)))
    except OSError as error:
        faults.append(f"{error.filename}: {error.strerror}; a *{_FILE} variable names it")
    else:
        if not faults:
            return settings
    raise SettingsError("\n".join(faults))


def show(settings: Settings) -> str:
    """Return the effective settings as lines of an environment file, each with its meaning; secrets are masked."""
    return "\n".join(_lines(settings))


def describe(cls: type[Settings]) -> str:
    """Return all variables with their defaults and meanings, a line each; those without a default come first."""
    needed = [f"{_variable(cls, name)}=  # needed: {field.description}" for name, field in _fields(cls, needed=True)]
    others = [
        f"{_variable(cls, name)}={_shown(field.default)}  # {field.description}"
        for name, field in _fields(cls, needed=False)
    ]
    return "\n".join([*needed, *others])


def _fields(cls: type[Settings], *, needed: bool) -> Iterator[tuple[str, FieldInfo]]:
    return ((name, field) for name, field in cls.model_fields.items() if field.is_required() is needed)


def _lines(settings: Settings) -> Iterator[str]:
    cls = type(settings)
    for name, field in cls.model_fields.items():
        shown = _shown(getattr(settings, name))
        yield f"{_variable(cls, name)}={shown}  # {field.description or ''}".rstrip(" #")


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return _MASK
    return json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)


def _variable(cls: type[Settings], field: str) -> str:
    return cls.prefix() + field.upper()


def _unknown(cls: type[Settings]) -> Iterator[str]:
    """Yield a fault for every variable with the prefix that is no field, and for every field given twice."""
    known = {_variable(cls, name) for name in cls.model_fields}
    for name in sorted(name for name in os.environ if name.startswith(cls.prefix())):
        if name in known:
            continue
        if name.removesuffix(_FILE) not in known:
            close = difflib.get_close_matches(name, known, n=1)
            yield f"{name}: no such setting" + (f"; did you mean {close[0]}?" if close else "")
        elif name.removesuffix(_FILE) in os.environ:
            yield f"{name}: {name.removesuffix(_FILE)} is set too; keep one of them"


def _fault(cls: type[Settings], location: tuple[int | str, ...], text: str) -> str:
    field = str(location[0]) if location else ""
    description = cls.model_fields[field].description if field in cls.model_fields else None
    return f"{_variable(cls, field)}: {text}" + (f" ({description})" if description else "")


def _unreadable(cls: type[Settings], text: str) -> str:
    """Return the fault of a list or object that is no JSON; `text` is the library's, which quotes the field's name."""
    name = next((name for name in cls.model_fields if f'"{name}"' in text), "")
    return f"{_variable(cls, name)}: expected JSON, for example [1, 2]"
