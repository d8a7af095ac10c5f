"""The object store: the same promises kept by the embedded one and by others, however they are reached."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import random
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from chassis import blobs as module
from chassis.blobs import Blobs
from chassis.settings import BadSettings, ServiceSettings
from contracts.errors import Rejection, RetryLater

PART = 5 * 2**20  # the smallest that S3 takes
LARGE = random.Random(7).randbytes(2 * PART + 1)
TYPE = "application/octet-stream"
TOKEN = "a-session-token"
Wrap = Callable[[Any], Any]
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def own_settings(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return ServiceSettings(nats_url="nats://x", database_url="postgresql://x")


@contextmanager
def moto(certificate: tuple[str, str] | None = None, wrap: Wrap = lambda app: app) -> Iterator[str]:
    """A server of Amazon's protocol as moto understands it."""
    app = wrap(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=certificate)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def plain_server() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def guarded_server(certificate: tuple[str, str]) -> Iterator[str]:
    """TLS with a certificate that only S3_CA_BUNDLE makes good, and for temporary keys only."""

    def with_the_token_only(app: Any) -> Any:
        def checked(environ: Any, start_response: Any) -> Any:
            if environ.get("HTTP_X_AMZ_SECURITY_TOKEN") == TOKEN:
                return app(environ, start_response)
            start_response("403 Forbidden", [("Content-Length", "0")])
            return []

        return checked

    with moto(certificate, with_the_token_only) as url:
        yield url


def self_signed(directory: Path) -> tuple[str, str]:
    """Paths of a certificate for 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an object store")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    form, format = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "certificate.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(form))
    (directory / "key.pem").write_bytes(key.private_bytes(form, format, serialization.NoEncryption()))
    return str(directory / "certificate.pem"), str(directory / "key.pem")


def given(url: str) -> dict[str, str]:
    bucket = f"test-{random.randbytes(6).hex()}"
    return {"S3_ENDPOINT_URL": url, "S3_BUCKET": bucket, "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}


def embedded(request: pytest.FixtureRequest) -> dict[str, str]:
    variables: dict[str, str] = request.getfixturevalue("object_store_settings")
    return variables


def plain(request: pytest.FixtureRequest) -> dict[str, str]:
    return given(request.getfixturevalue("plain_server"))


def virtual_host(request: pytest.FixtureRequest) -> dict[str, str]:
    """The bucket is a host below the endpoint's, which only this test can resolve."""
    variables = given(request.getfixturevalue("plain_server"))
    resolve, ours = socket.getaddrinfo, f"{variables['S3_BUCKET']}.s3.test"

    def resolved(host: Any, *rest: Any, **more: Any) -> Any:
        return resolve("127.0.0.1" if host == ours else host, *rest, **more)

    request.getfixturevalue("monkeypatch").setattr(socket, "getaddrinfo", resolved)
    endpoint = variables["S3_ENDPOINT_URL"].replace("127.0.0.1", "s3.test")
    return variables | {"S3_ENDPOINT_URL": endpoint, "S3_ADDRESSING_STYLE": "virtual"}


def guarded(request: pytest.FixtureRequest) -> dict[str, str]:
    variables = given(request.getfixturevalue("guarded_server"))
    bundle, _ = request.getfixturevalue("certificate")
    return variables | {"S3_CA_BUNDLE": bundle, "S3_SESSION_TOKEN": TOKEN}


STORES = {f.__name__: f for f in (embedded, plain, virtual_host, guarded)}


@pytest.fixture(params=STORES)
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    return own_settings(STORES[request.param](request), monkeypatch)


@pytest.fixture
async def blobs(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Blobs]:
    monkeypatch.setattr(module, "PART", PART)
    made = Blobs(settings)
    client = await made._open()
    with suppress(
        client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
    ):  # the embedded one's
        await client.create_bucket(Bucket=settings.s3_bucket)
    yield made
    await made.aclose()


async def test_a_blob_comes_back_as_it_was_stored_and_a_missing_one_is_said(blobs: Blobs) -> None:
    data = bytes(range(256)) * 1000
    await blobs.ready()
    ref = await blobs.put(data, company="default", content_type=TYPE)
    assert ref.key == f"default/{hashlib.sha256(data).hexdigest()}"
    assert await blobs.put(data, company="default", content_type=TYPE) == ref
    assert await blobs.get(ref) == data
    with pytest.raises(Rejection, match="not in the store"):
        await blobs.get(ref.model_copy(update={"key": "default/nothing"}))
    other = await blobs.put(b"other", company="default", content_type="text/plain")
    with pytest.raises(Rejection, match="not what was stored"):
        await blobs.get(ref.model_copy(update={"key": other.key}))


async def test_a_file_of_any_size_comes_back_as_it_was_stored(blobs: Blobs, tmp_path: Path) -> None:
    for size in (0, PART, len(LARGE)):
        (tmp_path / "in").write_bytes(LARGE[:size])
        digest = hashlib.sha256(LARGE[:size]).hexdigest()
        ref = await blobs.put_file(tmp_path / "in", company="default/artifacts", content_type=TYPE)
        assert (ref.key, ref.size) == (f"default/artifacts/{digest}", size)
        await blobs.get_file(ref, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == LARGE[:size]
    assert await blobs.get(ref) == LARGE
    known = await blobs.put_file(tmp_path / "in", company="default/artifacts", content_type=TYPE, sha256=ref.sha256)
    assert known == ref
    with tempfile.TemporaryFile() as spooled:
        spooled.write(LARGE)
        again = await blobs.put_open(spooled, company="default/spooled", content_type=TYPE, sha256=ref.sha256)
    assert await blobs.get(again) == LARGE


async def test_a_file_that_is_missing_or_was_changed_is_said(blobs: Blobs, tmp_path: Path) -> None:
    ref = await blobs.put(b"some bytes", company="default", content_type=TYPE)
    with pytest.raises(Rejection, match="not in the store"):
        await blobs.get_file(ref.model_copy(update={"key": "default/nothing"}), tmp_path / "out")
    other = await blobs.put(b"other", company="default", content_type="text/plain")
    with pytest.raises(Rejection, match="not what was stored"):
        await blobs.get_file(ref.model_copy(update={"key": other.key}), tmp_path / "out")


async def test_a_part_of_an_object_is_read_without_the_rest(blobs: Blobs) -> None:
    data = LARGE[:400_000]
    ref = await blobs.put(data, company="default", content_type=TYPE)
    for first, last in ((0, None), (0, 0), (100_000, 399_999), (399_999, None), (5, 10**9)):
        read = [part async for part in blobs.stream(ref.key, first, last)]
        assert b"".join(read) == data[first : None if last is None else last + 1]
        assert max(map(len, read)) <= module.CHUNK


async def test_who_stops_in_the_middle_of_an_object_holds_no_connection(blobs: Blobs) -> None:
    data = LARGE[: 2 * module.PIECE + 1]
    ref = await blobs.put(data, company="default", content_type=TYPE)
    slow = [blobs.pieces(ref.key, 0, ref.size - 1) for _ in range(module.CONNECTIONS)]
    begun = [await anext(pieces) for pieces in slow]
    async with asyncio.timeout(60):
        assert await blobs.get(ref) == data
    assert begun[0] + b"".join([piece async for piece in slow[0]]) == data
    assert [piece async for piece in blobs.pieces(ref.key, 7, 7)] == [data[7:8]]


async def test_what_is_deleted_is_gone_and_what_is_young_stays(blobs: Blobs) -> None:
    ref = await blobs.put(b"some bytes", company="default", content_type=TYPE)
    await blobs.delete(ref.key, unless_younger_than=3600)
    assert await blobs.get(ref) == b"some bytes"
    # the store's clock ticks in seconds: what was stored within this one is not yet old
    await blobs.delete(ref.key, unless_younger_than=-1)
    await blobs.delete(ref.key, unless_younger_than=-1)
    with pytest.raises(Rejection):
        await blobs.get(ref)


async def test_keys_are_listed_below_their_prefix_by_age(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    ours = [(await blobs.put(b"%d" % n, company="a/artifacts", content_type=TYPE)).key for n in range(5)]
    await blobs.put(b"0", company="a", content_type=TYPE)
    assert sorted(await blobs.older_than(-1, "a/artifacts/", 10)) == sorted(ours)
    assert len(await blobs.older_than(-1, "a/artifacts/", 3)) == 3
    assert await blobs.older_than(3600, "a/artifacts/", 10) == []


async def test_an_upload_that_breaks_off_leaves_no_object(
    blobs: Blobs, settings: ServiceSettings, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(LARGE)
    client = await blobs._open()
    answer = client.upload_part
    breaking = asyncio.Event()

    async def second_hangs(**given: Any) -> Any:
        if given["PartNumber"] == 2:
            breaking.set()
            await asyncio.Event().wait()
        return await answer(**given)

    client.upload_part = second_hangs
    putting = asyncio.create_task(blobs.put_file(tmp_path / "in", company="default", content_type=TYPE))
    await breaking.wait()
    putting.cancel()
    await asyncio.wait([putting])
    assert await blobs.older_than(-1, "default/", 10) == []
    begun = await client.list_multipart_uploads(Bucket=settings.s3_bucket)
    assert begun.get("Uploads", []) == []


async def test_uploads_whose_senders_died_are_ended(
    blobs: Blobs, settings: ServiceSettings, request: pytest.FixtureRequest
) -> None:
    client, bucket = await blobs._open(), settings.s3_bucket
    for key in ("default/one", "default/two", "other/three"):
        await client.create_multipart_upload(Bucket=bucket, Key=key)
    if request.node.callspec.params["settings"] == "embedded":  # with moto all of them began in 2010
        assert await blobs.abandon("default/", 3600) == 0, "they may be under way"
    assert await blobs.abandon("default/", -60) == 2
    begun = await client.list_multipart_uploads(Bucket=bucket)
    assert [each["Key"] for each in begun["Uploads"]] == ["other/three"]
    assert await blobs.abandon("other/", -60) == 1


async def test_an_object_store_that_is_away_is_a_matter_of_time() -> None:
    gone = ServiceSettings(
        nats_url="nats://x",
        database_url="postgresql://x",
        s3_endpoint_url="http://127.0.0.1:9",
        s3_access_key_id="k",
        s3_secret_access_key="s",
    )
    blobs = Blobs(gone)
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1:9 does not answer"):
        await blobs.put(b"x", company="default", content_type="text/plain")
    await blobs.aclose()


@asynccontextmanager
async def cutting(target: str, after: int) -> AsyncIterator[str]:
    """A way to a server that is lost when so many bytes of an answer have passed."""
    far = urlsplit(target)

    async def onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection(far.hostname, far.port)
        asking, left = asyncio.create_task(onward(reader, requests)), after
        try:
            while left and (data := await answers.read(left)):
                left -= len(data)
                writer.write(data)
        finally:
            asking.cancel()
            writer.close()
            requests.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_an_object_store_that_is_lost_in_the_middle_of_a_body_is_a_matter_of_time(
    object_store_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = own_settings(object_store_settings, monkeypatch)
    blobs = Blobs(settings)
    ref = await blobs.put(bytes(1_000_000), company="default", content_type="application/octet-stream")
    assert settings.s3_endpoint_url is not None
    async with cutting(settings.s3_endpoint_url, 100_000) as url:
        far = Blobs(settings.model_copy(update={"s3_endpoint_url": url}))
        with pytest.raises(RetryLater, match=r"does not answer: .+"):
            await far.get(ref)
        with pytest.raises(RetryLater, match=r"does not answer: .+"):
            await far.get_file(ref, tmp_path / "out")
        await far.aclose()
    assert len(await blobs.get(ref)) == 1_000_000
    await blobs.aclose()


async def test_a_store_whose_certificate_nobody_vouches_for_is_not_talked_to(
    guarded_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(own_settings(given(guarded_server), monkeypatch))
    with pytest.raises(RetryLater, match="certificate verify failed"):
        await blobs.put(b"x", company="default", content_type=TYPE)
    await blobs.aclose()


@pytest.mark.parametrize(("name", "value"), [("S3_CA_BUNDLE", "nowhere/ca.pem"), ("S3_ADDRESSING_STYLE", "subdomain")])
def test_a_wrong_way_to_the_store_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=name):
        ServiceSettings.load(nats_url="nats://x", database_url="postgresql://x")
