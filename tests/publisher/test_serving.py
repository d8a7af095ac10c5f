"""Previews over real HTTP: at their own hosts, on the common one, by version and by shared link."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pytest

from chassis.testing.eventually import eventually
from contracts.artifacts import AddArtifact, ListArtifacts, SetVisibility, Visibility
from contracts.plan import ArtifactKind
from contracts.previews import CreateShare, PinPreview, Preview, RevokeShare
from tests.publisher.conftest import World

PAGE = b"<!doctype html><title>One</title><script type=module src=/app.js></script>" + b"<p>tides</p>" * 200
SITE = {
    "index.html": PAGE,
    "app.js": b"export const answer = 42;\n" * 100,
    "docs/index.html": b"<h1>Docs</h1>",
    "logo.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "data.bin": bytes(range(256)) * 40,
    "empty.txt": b"",
}


@dataclass
class Browser:
    """Asks the publisher's port, with the host that an address names."""

    world: World
    http: httpx.AsyncClient

    async def get(self, url: str, *, method: str = "GET", **headers: str) -> httpx.Response:
        asked = httpx.URL(url)
        target = f"http://127.0.0.1:{asked.port}{asked.raw_path.decode()}"
        request = self.http.build_request(method, target, headers={"host": asked.netloc.decode(), **headers})
        return await self.http.send(request)

    async def publish(self, files: Mapping[str, bytes], task: UUID | None = None) -> Preview:
        task = task or self.world.task()
        sent = await self.world.submit(task, zip_of(files))
        return await self.world.ended(sent.id)


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    async with world.start_publisher(), httpx.AsyncClient(headers={"accept-encoding": "identity"}, timeout=60) as http:
        yield Browser(world, http)


def common(preview: Preview, rest: str = "") -> str:
    """The plain path, on the host that all sites have in common."""
    return f"http://127.0.0.1:{httpx.URL(root(preview.latest_url)).port}/default/default/{preview.task_id}/{rest}"


def zip_of(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def root(url: str | None) -> str:
    """The top of the host that an address names."""
    assert url is not None
    return str(httpx.URL(url).copy_with(path="/"))


async def test_a_site_opens_at_its_address_and_at_the_top_of_its_host(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    for address in (preview.latest_url, root(preview.latest_url), preview.url, common(preview)):
        answer = await browser.get(address or "")
        assert (answer.status_code, answer.content) == (200, PAGE), address
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_pages_of_the_application_open_and_missing_assets_are_missing(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    page = await browser.get(f"{preview.latest_url}orders/7")
    assert (page.status_code, page.content) == (200, PAGE)
    for gone in ("app.css", "assets/x.js", "img/logo.png"):
        answer = await browser.get(f"{preview.latest_url}{gone}", accept="text/html")
        assert answer.status_code == 404
        assert PAGE not in answer.content
    missing = await browser.get(f"{preview.latest_url}app.css", accept="*/*")
    assert missing.headers["content-type"].startswith("text/plain")


async def test_a_folder_is_asked_for_with_its_slash(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    answer = await browser.get(f"{preview.latest_url}docs?x=1")
    assert answer.status_code == 308
    assert answer.headers["location"] == f"{httpx.URL(preview.latest_url or '').path}docs/?x=1"
    bare = await browser.get((preview.latest_url or "").rstrip("/"))
    assert bare.headers["location"] == httpx.URL(preview.latest_url or "").path


async def test_a_new_version_takes_the_address_over_and_the_old_one_keeps_its_own(browser: Browser) -> None:
    first = await browser.publish(SITE)
    assert (await browser.get(first.latest_url or "")).content == PAGE
    second = await browser.publish({"index.html": b"two"}, first.task_id)
    await eventually(lambda: shows(browser, first.latest_url, b"two"), what="the new version")
    assert second.latest_url == first.latest_url
    assert second.url != first.url
    assert (await browser.get(first.url or "")).content == PAGE
    assert (await browser.get(common(first, "~v1/"))).content == PAGE
    assert (await browser.get(common(first, "~v3/"))).status_code == 404


async def shows(browser: Browser, url: str | None, content: bytes) -> bool:
    return (await browser.get(url or "")).content == content


async def test_what_is_approved_has_an_address_that_follows_the_pin(browser: Browser) -> None:
    first = await browser.publish(SITE)
    approved = (first.latest_url or "").replace(".localhost", "--approved.localhost")
    nothing = await browser.get(approved, accept="text/html")
    assert (nothing.status_code, b"Nothing is approved yet" in nothing.content) == (404, True)
    await browser.world.ask(PinPreview(command_id=uuid4(), preview_id=first.id))
    await eventually(lambda: shows(browser, approved, PAGE), what="the approved version")
    await browser.publish({"index.html": b"two"}, first.task_id)
    assert (await browser.get(approved)).content == PAGE


async def test_versions_are_kept_for_ever_and_the_latest_is_looked_at_anew(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    kept = await browser.get(f"{preview.url}app.js")
    assert "immutable" in kept.headers["cache-control"]
    for url in (f"{preview.latest_url}app.js", preview.url or ""):
        assert (await browser.get(url)).headers["cache-control"] == "private, no-cache"
    again = await browser.get(f"{preview.latest_url}app.js", **{"if-none-match": kept.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_texts_are_compressed_for_who_takes_it_and_parts_are_not(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    url = f"{preview.latest_url}app.js"
    packed = await browser.get(url, **{"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == SITE["app.js"]  # httpx unpacks
    assert int(packed.headers["content-length"]) == len(gzip.compress(SITE["app.js"], 6, mtime=0))
    plain = await browser.get(url)
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != packed.headers["etag"]
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    some = await browser.get(url, **{"accept-encoding": "gzip", "range": "bytes=0-9"})
    assert (some.status_code, some.content) == (206, SITE["app.js"][:10])
    assert some.headers["content-range"] == f"bytes 0-9/{len(SITE['app.js'])}"
    assert some.headers["etag"] == plain.headers["etag"]


async def test_parts_are_sent_and_those_behind_the_end_refused(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    url = f"{preview.latest_url}data.bin"
    data = SITE["data.bin"]
    tail = await browser.get(url, range="bytes=-5")
    assert (tail.status_code, tail.content) == (206, data[-5:])
    behind = await browser.get(url, range=f"bytes={len(data)}-")
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(data)}")
    whole = await browser.get(url)
    assert (whole.content, whole.headers["accept-ranges"]) == (data, "bytes")
    assert whole.headers["content-disposition"] == "attachment"
    head = await browser.get(url, method="HEAD")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(data)))
    empty = await browser.get(f"{preview.latest_url}empty.txt")
    assert (empty.status_code, empty.content) == (200, b"")


async def test_what_is_too_large_to_keep_passes_through(world: World) -> None:
    large = random.Random(1).randbytes(2**20)  # of a cache of 64 KiB
    async with world.start_publisher(cache=65_536), httpx.AsyncClient(timeout=60) as http:
        browser = Browser(world, http)
        preview = await browser.publish({"index.html": b"x", "film.mp4": large})
        url = f"{preview.latest_url}film.mp4"
        assert (await browser.get(url)).content == large
        assert (await browser.get(url, range="bytes=1000-500999")).content == large[1000:501_000]


async def test_previews_are_read_and_nothing_else(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = await browser.get(preview.latest_url or "", method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = await browser.get(preview.latest_url or "", cookie="session=1", authorization="Bearer x")
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


async def test_every_answer_says_what_a_browser_may_do_with_it(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    own = (await browser.get(preview.latest_url or "")).headers
    shared = (await browser.get(common(preview))).headers
    for headers in (own, shared):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-robots-tag"].startswith("noindex")
        assert "camera=()" in headers["permissions-policy"]
        assert "worker-src 'none'" in headers["content-security-policy"]
    assert "allow-same-origin" in own["content-security-policy"]
    assert "access-control-allow-origin" not in own
    assert "allow-same-origin" not in shared["content-security-policy"]
    assert shared["access-control-allow-origin"] == "*"
    svg = await browser.get(f"{preview.latest_url}logo.svg")
    assert svg.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


async def test_nobody_s_address_says_what_to_do(browser: Browser) -> None:
    nobody, preview = "a" * 32, await browser.publish(SITE)
    port = httpx.URL(root(preview.latest_url)).port
    other = common(preview.model_copy(update={"task_id": uuid4()}))
    hosts = (f"{nobody}.localhost", f"{nobody}--v1.localhost", f"share-{nobody}.localhost", "127.0.0.1", "evil.example")
    for url in (*(f"http://{host}:{port}/" for host in hosts), other):
        answer = await browser.get(url, accept="text/html")
        assert answer.status_code == 404
        assert b"<code>fluidcrew previews ls</code>" in answer.content


async def test_a_private_preview_opens_at_its_own_host_only(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    assert (await browser.get(common(preview))).status_code == 200
    found = await browser.world.ask(ListArtifacts(task_id=preview.task_id, kind=ArtifactKind.PREVIEW))
    change = SetVisibility(command_id=uuid4(), artifact_id=found.items[0].id, visibility=Visibility.PRIVATE)
    await browser.world.ask(change)

    async def hidden() -> bool:
        return (await browser.get(common(preview))).status_code == 404

    await eventually(hidden, what="the private preview to be gone from the common host")
    assert (await browser.get(preview.latest_url or "")).status_code == 200


async def test_a_shared_link_opens_until_it_is_taken_back(browser: Browser) -> None:
    preview = await browser.publish(SITE)
    share = await browser.world.ask(CreateShare(command_id=uuid4(), preview_id=preview.id))
    assert share.url is not None
    assert (await browser.get(share.url)).content == PAGE
    assert (await browser.get(f"{share.url}app.js")).content == SITE["app.js"]
    await browser.world.ask(RevokeShare(command_id=uuid4(), share_id=share.id))

    async def over() -> bool:
        return (await browser.get(share.url or "")).status_code == 410

    await eventually(over, what="the end of the shared link")


async def test_a_shared_file_opens_under_its_own_name_and_runs_nothing(browser: Browser) -> None:
    world, task = browser.world, browser.world.task()
    ref = await world.put(b"<script>alert(1)</script>", "text/html")
    added = await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="Bericht ü.html", ref=ref))
    share = await world.ask(CreateShare(command_id=uuid4(), artifact_id=added.id))
    answer = await browser.get(share.url or "")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith(
        "inline; filename=\"Bericht _.html\"; filename*=UTF-8''Bericht"
    )
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    saved = await browser.get(f"{share.url}?download")
    assert saved.headers["content-disposition"].startswith("attachment")
