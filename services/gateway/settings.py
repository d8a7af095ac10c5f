"""What the gateway reads from its environment, and with which combinations it refuses to start."""

from __future__ import annotations

from ipaddress import ip_address

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import BadSettings, ServiceSettings

DEFAULT_KEY = "test-key"
DEFAULT_ORIGINS = "http://localhost:3000,http://localhost:5173"


class GatewaySettings(ServiceSettings):
    """Times in seconds. Names without GATEWAY_ are the predecessor's."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="ignore", populate_by_name=True, frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535, validation_alias="PORT")
    api_key: SecretStr = Field(default=SecretStr(DEFAULT_KEY), validation_alias="API_KEY")
    require_api_key: bool = Field(default=True, validation_alias="REQUIRE_API_KEY")
    feature_rbac: bool = Field(default=False, validation_alias="FEATURE_RBAC")
    allowed_origins: str = Field(default=DEFAULT_ORIGINS, validation_alias="ALLOWED_ORIGINS")
    retention_timeline_days: float = Field(default=90, gt=0, validation_alias="RETENTION_TIMELINE_DAYS")
    metrics_enabled: bool = Field(default=False, validation_alias="METRICS_ENABLED")

    body_limit: int = Field(default=1_048_576, ge=1024)  # bytes
    body_idle: float = Field(default=30.0, gt=0)  # until a client that sends nothing of its body is given up
    uploads: int = Field(default=16, ge=1)  # files that may be sent at once
    sse_heartbeat: float = Field(default=15.0, gt=0)
    sse_life: float = Field(default=600.0, gt=0)
    sse_queue: int = Field(default=256, ge=1)  # frames a slow watcher may lag behind
    sse_streams: int = Field(default=1000, ge=1)
    feed_poll: float = Field(default=0.5, gt=0)
    timeline_batch: int = Field(default=500, ge=1, le=4096)
    gap_patience: float = Field(default=30.0, gt=0)  # how long a parked fact waits before its owner is asked

    @property
    def origins(self) -> list[str]:
        return [origin for part in self.allowed_origins.split(",") if (origin := part.strip().rstrip("/"))]

    @property
    def on_loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def open_to_all(self) -> bool:
        """Whoever reaches the API may do everything: the key is public, or none is needed."""
        return not self.require_api_key or self.api_key.get_secret_value() == DEFAULT_KEY

    def refuse_what_is_unsafe(self) -> None:
        """Raises BadSettings with one line that says what to change."""
        if not self.require_api_key and not (self.env == "dev" and self.on_loopback):
            raise BadSettings(
                f"REQUIRE_API_KEY=false works only with ENV=dev on loopback (ENV={self.env}, GATEWAY_HOST={self.host});"
                " set REQUIRE_API_KEY=true"
            )
        self._refuse_a_key_that_is_none(self.api_key.get_secret_value())
        if "*" in self.origins:
            raise BadSettings("ALLOWED_ORIGINS must name origins; * would let every website in")

    def _refuse_a_key_that_is_none(self, key: str) -> None:
        if not key.strip():
            raise BadSettings("API_KEY is blank; set one of your own, or unset it")
        if not key.isprintable() or not key.isascii():
            raise BadSettings("API_KEY must be printable ASCII: it travels in a header")
        if key != key.strip():
            raise BadSettings("API_KEY must not begin or end with a space: no header could carry it")
        if key == DEFAULT_KEY and self.env == "prod":
            raise BadSettings("API_KEY is the default one while ENV=prod; set your own API_KEY")
        if key == DEFAULT_KEY and not self.on_loopback:
            raise BadSettings(
                f"API_KEY is the default one while GATEWAY_HOST={self.host} is reachable; set your own API_KEY"
            )
