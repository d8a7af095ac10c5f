"""Settings: files for secrets, overrides per service, and one line that names a wrong variable."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from chassis.settings import BadSettings, ServiceSettings


class PlannerLike(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PLANNER_")

    patience: float = 3.0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", "nats://bus")
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://crew:crew@db/crew")


def test_the_predecessors_database_url_is_understood() -> None:
    assert PlannerLike.load().database_url.get_secret_value() == "postgresql://crew:crew@db/crew"


def test_a_services_own_variable_wins_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATABASE_URL", "postgresql://own")
    monkeypatch.setenv("PLANNER_PATIENCE", "7.5")
    settings = PlannerLike.load()
    assert settings.database_url.get_secret_value() == "postgresql://own"
    assert settings.patience == 7.5
    assert "own" not in repr(settings), "secrets are masked"


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY_FILE", str(secret))
    loaded = PlannerLike.load().s3_secret_access_key
    assert loaded is not None
    assert loaded.get_secret_value() == "s3cret"
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "other")
    with pytest.raises(BadSettings, match="S3_SECRET_ACCESS_KEY and S3_SECRET_ACCESS_KEY_FILE are both set"):
        PlannerLike.load()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_secret_that_others_can_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "key"
    secret.write_text("s3cret")
    secret.chmod(mode)
    monkeypatch.setenv("NATS_URL", "")
    monkeypatch.setenv("NATS_URL_FILE", str(secret))
    with pytest.raises(BadSettings, match=r"NATS_URL_FILE=.* can be written by others .* chmod 600"):
        PlannerLike.load()


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False), (0o400, False)])
def test_a_secret_that_everybody_can_read_is_warned_of_once_without_its_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    secret = tmp_path / "key"
    secret.write_text("s3cret")
    secret.chmod(mode)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY_FILE", str(secret))
    loaded = PlannerLike.load().s3_secret_access_key
    assert loaded is not None
    assert loaded.get_secret_value() == "s3cret"
    said = [record.getMessage() for record in caplog.records]
    assert [f"S3_SECRET_ACCESS_KEY_FILE={secret} is readable by everybody" in line for line in said] == [True] * warned
    assert "s3cret" not in caplog.text
    monkeypatch.setattr("chassis.settings.MOUNTED", (str(tmp_path),))
    caplog.clear()
    PlannerLike.load()
    assert not caplog.records, "a mounted secret is as its mount makes it"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "S3_SECRET_ACCESS_KEY_FILE=.* is empty; write the value into it"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, complaint: str
) -> None:
    secret = tmp_path / "key"
    secret.write_bytes(content)
    secret.chmod(0o600)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY_FILE", str(secret))
    with pytest.raises(BadSettings, match=complaint):
        PlannerLike.load()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("NATS_URL", "", "NATS_URL: Field required"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL: "),
        ("DATABASE_POOL_SIZE", "many", "DATABASE_POOL_SIZE: "),
        ("PLANNER_PATIENCE", "soon", "PLANNER_PATIENCE: "),
    ],
)
def test_a_wrong_variable_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        PlannerLike.load()
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)
    assert value == "" or value not in str(refused.value), "a value may be a secret"
