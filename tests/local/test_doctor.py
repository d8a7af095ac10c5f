"""The doctor finds what is wrong, and each finding says what to do."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.testing.servers import NatsServer
from deploy.local.ports import free_port
from fluidcrew.check import Check, failed
from fluidcrew.doctor import run_checks
from fluidcrew.preflight import disk, preflight


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"FLUIDCREW_HOME": str(tmp_path / "home"), "PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}


def named(checks: list[Check], name: str) -> Check:
    return next(c for c in checks if c.name == name)


def test_this_machine_passes(environ: dict[str, str]) -> None:
    checks = run_checks(environ)
    assert not failed(checks), [c.line() for c in checks if not c.ok]
    assert {"nats-server", "postgres", "rclone", "Python"} <= {c.name for c in checks}


def test_looking_changes_nothing(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    run_checks(environ)
    assert not Path(environ["FLUIDCREW_HOME"]).exists()
    assert list(user.iterdir()) == []


def test_a_port_in_use_is_found_before_the_start(environ: dict[str, str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        environ["PORT"] = str(holder.getsockname()[1])
        found = named(preflight(environ, starting=True), "PORT")
        assert not found.ok
        assert found.line().endswith("set PORT to another port")
        assert "PORT" not in {c.name for c in preflight(environ, starting=False)}


def test_a_place_that_cannot_be_used_is_not_called_full_as_well(environ: dict[str, str]) -> None:
    checks = preflight(environ | {"FLUIDCREW_HOME": "/dev/null/x"}, starting=False, installing=False)
    assert [c.name for c in checks if not c.ok and c.fatal] == ["data directory"]
    assert disk("disk for data", Path("/proc"), 1).ok, "a file system that counts nothing has not 0 MiB free"


@pytest.mark.parametrize(
    ("given", "name", "words"),
    [
        ({"PORT": "80a"}, "environment", "PORT='80a' is no port"),
        ({"NATS_URL": "nats://a", "NATS_URL_FILE": "/dev/null"}, "environment", "both set"),
        ({"FLUIDCREW_HOME": "/dev/null/x"}, "data directory", "set FLUIDCREW_HOME"),
        ({"NATS_URL": "nats://u:p@127.0.0.1:1"}, "NATS", "correct NATS_URL"),
        ({"DATABASE_URL": "postgresql+asyncpg://u:p@127.0.0.1:1/d"}, "Postgres", "correct DATABASE_URL"),
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "S3", "correct S3_ENDPOINT_URL"),
        ({"S3_ENDPOINT_URL": "file:///etc/passwd"}, "S3", "no http URL"),
        ({"LLM_DEFAULT_PROVIDER": "gpt"}, "provider", "set LLM_DEFAULT_PROVIDER"),
    ],
)
def test_what_cannot_work_is_named_with_its_remedy(
    environ: dict[str, str], given: dict[str, str], name: str, words: str
) -> None:
    checks = run_checks(environ | given)
    assert failed(checks)
    line = named([c for c in checks if not c.ok], name).line()
    assert words in line
    assert " -> " in line
    assert "\n" not in line
    assert "u:p@" not in line


def test_external_servers_are_judged_by_what_they_are(
    environ: dict[str, str], nats_server: NatsServer, postgres_admin_url: str, object_store_settings: dict[str, str]
) -> None:
    environ |= object_store_settings | {"NATS_URL": nats_server.url(), "DATABASE_URL": postgres_admin_url}
    checks = run_checks(environ)
    assert not failed(checks), [c.line() for c in checks if not c.ok]
    assert {"NATS", "JetStream", "Postgres", "pgvector", "roles", "S3"} <= {c.name for c in checks if c.ok}
    assert "nats-server" not in {c.name for c in checks}


def test_a_nats_server_that_is_too_old_or_without_jetstream_is_refused(environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as old:

        def greet() -> None:
            connection, _ = old.accept()
            connection.sendall(b'INFO {"version":"2.9.25"}\r\n')
            connection.close()

        threading.Thread(target=greet, daemon=True).start()
        checks = run_checks(environ | {"NATS_URL": f"nats://127.0.0.1:{old.getsockname()[1]}"})
    assert not named(checks, "NATS").ok
    assert not named(checks, "JetStream").ok


class Models(http.server.BaseHTTPRequestHandler):
    """A provider that knows one key."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer right" and self.path == "/v1/models"
        self.send_response(200 if known else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def openai(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield environ | {
            "LLM_DEFAULT_PROVIDER": "openai",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1",
        }
        server.shutdown()


def test_a_provider_is_asked_with_its_key(openai: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("right\n")
    assert named(preflight(openai | {"OPENAI_API_KEY_FILE": str(tmp_path / "key")}, starting=False), "provider").ok
    refused = named(preflight(openai | {"OPENAI_API_KEY": "wrong"}, starting=False), "provider")
    assert "refuses the key" in refused.line()
    assert "set OPENAI_API_KEY" in refused.line()
    assert "wrong" not in refused.line()


def test_a_provider_that_does_not_answer_is_a_warning_because_it_may_come_later(environ: dict[str, str]) -> None:
    checks = preflight(
        environ | {"LLM_DEFAULT_PROVIDER": "ollama", "OLLAMA_BASE_URL": "http://127.0.0.1:1/v1"}, starting=False
    )
    found = named(checks, "provider")
    assert not found.ok
    assert not failed(checks)
    assert "OLLAMA_BASE_URL" in found.line()
