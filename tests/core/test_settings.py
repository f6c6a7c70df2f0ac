from __future__ import annotations

from pathlib import Path

import pytest
from holdtrue_core.settings import (
    BlobSettings,
    DatabaseSettings,
    KafkaSettings,
    ServiceSettings,
    Settings,
    SettingsError,
    load,
    show,
)
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

DSN = "postgresql://me:secret@host/db"


class Example(ServiceSettings, DatabaseSettings, KafkaSettings, BlobSettings):
    model_config = SettingsConfigDict(env_prefix="HOLDTRUE_EXAMPLE_")

    grpc_port: int = 5001
    """Port of the example."""
    limits: tuple[int, ...] = (1, 2)
    """Some numbers."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("HOLDTRUE_EXAMPLE_POSTGRES_DSN", DSN)
    monkeypatch.setenv("HOLDTRUE_EXAMPLE_BLOBS", "/blobs")
    return monkeypatch


def test_values_come_from_the_environment_or_the_defaults(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOLDTRUE_EXAMPLE_GRPC_PORT", "6001")
    environment.setenv("HOLDTRUE_EXAMPLE_LIMITS", "[3]")
    loaded = load(Example)
    assert (loaded.grpc_port, loaded.limits, loaded.pool_size, loaded.kafka) == (6001, (3,), 8, "127.0.0.1:9092")
    assert loaded.postgres_dsn.get_secret_value() == DSN
    assert loaded.blobs == Path("/blobs")


def test_the_schema_is_named_like_the_service(environment: pytest.MonkeyPatch) -> None:
    assert load(Example).postgres_schema == "example"
    environment.setenv("HOLDTRUE_EXAMPLE_POSTGRES_SCHEMA", "other")
    assert load(Example).postgres_schema == "other"


def test_settings_never_change() -> None:
    loaded = load(Example)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.grpc_port = 1  # type: ignore[misc]


def test_a_secret_may_lie_in_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("HOLDTRUE_EXAMPLE_POSTGRES_DSN")
    file = tmp_path / "dsn"
    file.write_text(DSN + "\n")
    environment.setenv("HOLDTRUE_EXAMPLE_POSTGRES_DSN_FILE", str(file))
    assert load(Example).postgres_dsn.get_secret_value() == DSN


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    loaded = load(Example)
    shown = show(loaded)
    assert "HOLDTRUE_EXAMPLE_POSTGRES_DSN=**********  # DSN of the database, with the service's own role." in shown
    assert "HOLDTRUE_EXAMPLE_GRPC_PORT=5001  # Port of the example." in shown
    for text in (shown, repr(loaded), str(loaded)):
        assert "secret" not in text.replace("secrets", "")


def test_what_is_shown_can_be_loaded_again(environment: pytest.MonkeyPatch) -> None:
    before = load(Example)
    for line in show(before).splitlines():
        name, value = line.split("  # ")[0].split("=", 1)
        if name != "HOLDTRUE_EXAMPLE_POSTGRES_DSN":
            environment.setenv(name, value)
    assert load(Example) == before


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GRPC_PRT", "1", "HOLDTRUE_EXAMPLE_GRPC_PRT: no such setting; did you mean HOLDTRUE_EXAMPLE_GRPC_PORT?"),
        ("XYZ", "1", "HOLDTRUE_EXAMPLE_XYZ: no such setting"),
        ("POSTGRES_DSN_FILE", "/x", "HOLDTRUE_EXAMPLE_POSTGRES_DSN is set too; keep one of them"),
        ("BLOBS_FILE", "/x", "HOLDTRUE_EXAMPLE_BLOBS is set too"),
        ("GRPC_PORT", "many", r"HOLDTRUE_EXAMPLE_GRPC_PORT: Input should be a valid integer.*\(Port of the example"),
        ("METRICS_PORT", "70000", "HOLDTRUE_EXAMPLE_METRICS_PORT: Input should be less than or equal to 65535"),
        ("GRACE_SECONDS", "0", "HOLDTRUE_EXAMPLE_GRACE_SECONDS: Input should be greater than 0"),
        ("LOG_FORMAT", "xml", "HOLDTRUE_EXAMPLE_LOG_FORMAT: Input should be 'json' or 'console'"),
        ("LIMITS", "[", "HOLDTRUE_EXAMPLE_LIMITS: expected JSON"),
    ],
)
def test_every_fault_is_told_with_its_variable(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    environment.setenv(f"HOLDTRUE_EXAMPLE_{name}", value)
    with pytest.raises(SettingsError, match=said):
        load(Example)


def test_all_faults_are_told_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HOLDTRUE_EXAMPLE_POSTGRES_DSN")
    environment.setenv("HOLDTRUE_EXAMPLE_GRPC_PORT", "x")
    environment.setenv("HOLDTRUE_EXAMPLE_UNKNOWN", "x")
    with pytest.raises(SettingsError) as caught:
        load(Example)
    faults = str(caught.value).splitlines()
    assert {fault.split(":")[0].removeprefix("HOLDTRUE_EXAMPLE_") for fault in faults} == {
        "UNKNOWN",
        "GRPC_PORT",
        "POSTGRES_DSN",
    }


def test_a_fault_never_shows_the_value_of_a_secret(environment: pytest.MonkeyPatch) -> None:
    class Strict(Settings):
        model_config = SettingsConfigDict(env_prefix="HOLDTRUE_STRICT_")
        token: SecretStr = Field(min_length=100)

    environment.setenv("HOLDTRUE_STRICT_TOKEN", "tell-nobody")
    with pytest.raises(SettingsError, match="HOLDTRUE_STRICT_TOKEN") as caught:
        load(Strict)
    assert "tell-nobody" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HOLDTRUE_EXAMPLE_POSTGRES_DSN")
    environment.setenv("HOLDTRUE_EXAMPLE_POSTGRES_DSN_FILE", "/nowhere/dsn")
    with pytest.raises(SettingsError, match=r"/nowhere/dsn: No such file .*; a \*_FILE variable names it"):
        load(Example)


def test_other_services_variables_do_not_matter(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOLDTRUE_OTHER_THING", "x")
    assert load(Example)


def test_every_field_says_what_it_means() -> None:
    for cls in (ServiceSettings, DatabaseSettings, KafkaSettings, BlobSettings):
        assert all(field.description for field in cls.model_fields.values())
