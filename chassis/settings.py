"""Settings of a service: read once at start from the environment, passed down, never global.

Every variable NAME may be given as NAME_FILE, whose content is then the value (for secrets mounted as files; nobody but
its owner may be able to write it, and one that everybody can read is warned of), and as
<SERVICE>_NAME, which wins for that service alone (a database of its own, say).
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from contracts.errors import FluidcrewError
from contracts.streams import DAY, STREAMS

#: a message may come again for as long as its stream holds it: until then it must be known to have been handled
MESSAGES_LIVE_DAYS = max(stream.soft_age for stream in STREAMS if stream.name != "DLQ") / DAY


#: where container engines and Kubernetes mount secrets by custom
MOUNTED = ("/run/secrets/", "/var/run/secrets/")
log = logging.getLogger(__name__)  # settings are read before structlog is set up: then it is a line on stderr


class BadSettings(FluidcrewError):
    """A variable of the environment is missing or wrong; the message names it."""


def _plain_names(field: str, info: FieldInfo, prefix: str) -> list[str]:
    alias = info.validation_alias
    if alias is None:
        return [f"{prefix}{field}".upper()]
    return [str(c).upper() for c in (alias.choices if isinstance(alias, AliasChoices) else [alias])]


def _names(field: str, info: FieldInfo, prefix: str) -> list[str]:
    """The variables that may hold a field, the most specific first."""
    plain = _plain_names(field, info, prefix)
    shared = info.validation_alias is not None
    return [f"{prefix}{name}".upper() for name in plain if prefix and shared] + plain


def _look_at_rights(name: str, path: Path, mode: int) -> None:
    """Who may write it decides what we trust. Who may read it is the mount's business in a container (Kubernetes: 0644)."""
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadSettings(f"{name}_FILE={path} can be written by others than its owner; chmod 600 it")
    if mode & stat.S_IROTH and not str(path).startswith(MOUNTED):
        log.warning("%s_FILE=%s is readable by everybody on this machine; chmod 600 it if others use it", name, path)


def _read_secret(name: str, path: Path) -> str:
    if os.environ.get(name, "") != "":
        raise BadSettings(f"{name} and {name}_FILE are both set; unset one of them")
    try:
        _look_at_rights(name, path, path.stat().st_mode)
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadSettings(f"{name}_FILE={path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{name}_FILE={path} is not UTF-8 text") from error
    if not secret:
        raise BadSettings(f"{name}_FILE={path} is empty; write the value into it, or unset {name}_FILE")
    return secret


class EnvironmentSource(PydanticBaseSettingsSource):
    """Environment variables with <SERVICE>_ overrides and _FILE indirection."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        prefix = self.config.get("env_prefix", "") or ""
        for name in _names(field_name, field, prefix):
            if path := os.environ.get(f"{name}_FILE"):
                return _read_secret(name, Path(path)), field_name, False
            if os.environ.get(name, "") != "":
                return os.environ[name], field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(info, name)[0] for name, info in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class EnvironmentSettings(BaseSettings):
    """Base of everything read from the environment. An empty variable counts as unset."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, EnvironmentSource(settings_cls)

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The variable that documents each field, by field; overrides and _FILE forms apart."""
        prefix = cls.model_config.get("env_prefix", "") or ""
        return {field: _plain_names(field, info, prefix)[0] for field, info in cls.model_fields.items()}

    @classmethod
    def load(cls, **given: Any) -> Any:
        """Like the constructor, but a wrong variable is one line that names it (BadSettings)."""
        try:
            return cls(**given)
        except ValidationError as error:
            variables, lines = cls.variables(), []
            for problem in error.errors(include_url=False, include_input=False):
                field = str(problem["loc"][0]) if problem["loc"] else "?"
                lines.append(f"{variables.get(field, field)}: {problem['msg']}")
            raise BadSettings("; ".join(lines)) from error


class ServiceSettings(EnvironmentSettings):
    """What every service reads. Times in seconds."""

    nats_url: SecretStr = Field(validation_alias="NATS_URL")
    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    database_pool_size: int = Field(default=8, ge=2, le=200, validation_alias="DATABASE_POOL_SIZE")
    s3_endpoint_url: str | None = Field(default=None, validation_alias="S3_ENDPOINT_URL")
    s3_bucket: str = Field(default="fluidcrew", validation_alias="S3_BUCKET")
    s3_region: str = Field(default="us-east-1", validation_alias="S3_REGION")
    s3_access_key_id: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID")
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    s3_session_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("S3_SESSION_TOKEN", "AWS_SESSION_TOKEN")
    )
    s3_addressing_style: Literal["path", "virtual"] = Field(default="path", validation_alias="S3_ADDRESSING_STYLE")
    s3_ca_bundle: FilePath | None = Field(default=None, validation_alias="S3_CA_BUNDLE")
    env: Literal["dev", "test", "prod"] = Field(default="dev", validation_alias="ENV")
    log_format: Literal["console", "json"] = Field(default="console", validation_alias="LOG_FORMAT")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", validation_alias="LOG_LEVEL")
    health_host: str = Field(default="127.0.0.1", validation_alias="HEALTH_HOST")
    health_port: int | None = Field(default=None, ge=0, le=65535, validation_alias="HEALTH_PORT")
    otlp_endpoint: str | None = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    sentry_dsn: SecretStr | None = Field(default=None, validation_alias="SENTRY_DSN")
    sentry_env: str = Field(default="dev", validation_alias="SENTRY_ENV")
    release: str | None = Field(default=None, validation_alias="RELEASE")
    drain_timeout: float = Field(default=10.0, gt=0, validation_alias="DRAIN_TIMEOUT_S")
    retention_every_s: float = Field(default=3600, gt=0, validation_alias="RETENTION_EVERY_S")
    retention_inbox_days: float = Field(default=8, gt=MESSAGES_LIVE_DAYS, validation_alias="RETENTION_INBOX_DAYS")
    retention_commands_days: float = Field(default=8, gt=MESSAGES_LIVE_DAYS, validation_alias="RETENTION_COMMANDS_DAYS")
    retention_jobs_days: float = Field(default=8, gt=0, validation_alias="RETENTION_JOBS_DAYS")
    retention_dead_letters_days: float = Field(default=30, gt=0, validation_alias="RETENTION_DEAD_LETTERS_DAYS")

    @field_validator("database_url", mode="before")
    @classmethod
    def _plain_scheme(cls, value: Any) -> Any:
        """The predecessors' `postgresql+asyncpg://` means the same database."""
        if isinstance(value, str):
            return value.replace("postgresql+asyncpg://", "postgresql://", 1)
        return value
