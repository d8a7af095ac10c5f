"""What a browser makes of previews: single-page applications work, and nobody reaches anybody else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from contracts.artifacts import AddArtifact
from contracts.previews import CreateShare, Preview, RevokeShare
from tests.browser.conftest import Stage

APP = """
import { greeting } from './lib/words.mjs';
const show = () => { document.querySelector('#view').textContent = location.pathname.split('/').pop() || 'home'; };
document.querySelector('#go').onclick = () => { history.pushState({}, '', 'orders'); show(); };
addEventListener('popstate', show);
document.title = greeting;
show();
"""


def site(name: str) -> dict[str, str | bytes]:
    return {
        "index.html": f"<!doctype html><meta charset=utf-8><title>loading</title><link rel=stylesheet href=/style.css>"
        f"<h1>{name}</h1><p id=view></p><button id=go>go</button><img id=logo src=/logo.svg>"
        f"<a id=out target=_blank href=about>about</a><script type=module src=/app.js></script>",
        "app.js": APP,
        "lib/words.mjs": f"export const greeting = 'Hello from {name}';",
        "style.css": "h1 { color: rgb(1, 2, 3) }" + "/* */" * 400,
        "logo.svg": "<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'>"
        "<script>document.documentElement.id='ran'</script><rect width='10' height='10'/></svg>",
        "about.html": "<title>About</title>",
        "data.json": f'{{"name": "{name}"}}',
        "tool.bin": b"\x00\x01",
        "sw.js": "self.addEventListener('fetch', () => {});",
    }


def at_the_top(preview: Preview) -> str:
    """Of the site's own host."""
    assert preview.latest_url is not None
    return preview.latest_url.split("/default/")[0] + "/"


def on_the_common_host(preview: Preview) -> str:
    port = at_the_top(preview).rsplit(":", 1)[1]  # with its slash
    return f"http://127.0.0.1:{port}default/default/{preview.task_id}/"


async def outcome(page: Any, script: str) -> str:
    """What a script in the page comes to: `ok …`, or the name of what is thrown."""
    wrapped = (
        f"async () => {{ try {{ return 'ok ' + await (async () => {{ {script} }})() }} catch (e) {{ return e.name }} }}"
    )
    found: str = await page.evaluate(wrapped)
    return found


async def test_a_single_page_application_works(stage: Stage) -> None:
    preview = await stage.publish(site("tides"))
    for url in (preview.latest_url, at_the_top(preview)):
        page = await stage.open(url)
        await page.wait_for_function("document.title === 'Hello from tides'")  # its module and what that imports
        assert await page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(1, 2, 3)"
        assert await page.evaluate("document.querySelector('#logo').naturalWidth") == 10
        await page.click("#go")
        assert page.url == f"{url}orders"
        assert await page.inner_text("#view") == "orders"
        await page.reload()
        await page.wait_for_function("document.querySelector('#view').textContent === 'orders'")
        await page.go_back()
        await page.wait_for_function("document.querySelector('#view').textContent === 'home'")
        await page.go_forward()
        await page.wait_for_function("document.querySelector('#view').textContent === 'orders'")


async def test_deep_links_and_clean_addresses_open(stage: Stage) -> None:
    preview = await stage.publish(site("tides"))
    page = await stage.open(f"{at_the_top(preview)}orders")
    await page.wait_for_function("document.querySelector('#view').textContent === 'orders'")
    await page.goto(f"{preview.latest_url}about")
    assert await page.title() == "About"
    assert await outcome(page, "return (await (await fetch('data.json')).json()).name") == "ok tides"
    missing = await outcome(page, "const r = await fetch('/none.js'); return r.status + r.headers.get('content-type')")
    assert missing.startswith("ok 404text/plain")


async def test_a_version_s_absolute_addresses_stay_in_the_version(stage: Stage) -> None:
    first = await stage.publish(site("one"))
    await stage.publish(site("two"), first.task_id)
    page = await stage.open(first.url)
    await page.wait_for_function("document.title === 'Hello from one'")
    latest = await stage.open(first.latest_url)
    await latest.wait_for_function("document.title === 'Hello from two'")


async def test_two_previews_share_nothing(stage: Stage) -> None:
    a, b = await stage.publish(site("a")), await stage.publish(site("b"))
    left, right = await stage.open(a.latest_url), await stage.open(b.latest_url)
    await left.evaluate("localStorage.setItem('x', '1'); sessionStorage.setItem('x', '1'); document.cookie = 'x=1'")
    domain = at_the_top(a).split("//")[1].split(":")[0].split(".", 1)[1]
    await left.evaluate(f"document.cookie = 'wide=1; domain={domain}; path=/'")
    await outcome(left, "indexedDB.open('x'); await caches.open('x'); return 1")
    assert await left.evaluate("document.cookie") == "x=1"
    assert await right.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert await outcome(right, "return (await indexedDB.databases()).length + (await caches.keys()).length") == "ok 0"
    heard = "window.heard = 0; new BroadcastChannel('x').onmessage = () => { window.heard++ }; 0"
    await right.evaluate(heard)
    await left.evaluate("new BroadcastChannel('x').postMessage(1)")
    other = at_the_top(b)
    assert await outcome(left, f"return (await fetch('{other}data.json')).status") == "TypeError"
    assert await outcome(left, f"return await import('{other}lib/words.mjs')") == "TypeError"
    assert await loads(left, "img", f"{other}logo.svg") == "error"
    assert await loads(left, "script", f"{other}app.js") == "error"
    assert await right.evaluate("window.heard") == 0


async def loads(page: Any, tag: str, url: str) -> str:
    """`load` or `error`, as the element says."""
    script = f"""() => new Promise(done => {{
        const made = document.createElement('{tag}');
        made.onload = () => done('load'); made.onerror = () => done('error');
        made.src = '{url}'; document.body.append(made);
    }})"""
    said: str = await page.evaluate(script)
    return said


async def test_nobody_holds_another_s_window(stage: Stage) -> None:
    a, b = await stage.publish(site("a")), await stage.publish(site("b"))
    page = await stage.open(a.latest_url)
    for url in (b.latest_url, f"{stage.api}/health"):
        async with stage.context.expect_page() as opened:
            await page.evaluate(f"window.held = window.open('{url}')")
        popup = await opened.value
        await popup.wait_for_load_state()
        assert await popup.evaluate("window.opener") is None
        assert await outcome(page, "return held.document ? held.document.title : 'nothing'") in (
            "SecurityError",
            "TypeError",
            "ok nothing",
        )
        await popup.close()
    async with stage.context.expect_page() as opened:
        await page.click("#out")
    popup = await opened.value
    await popup.wait_for_load_state()
    assert await popup.evaluate("[document.title, window.opener, document.referrer]") == ["About", None, ""]


async def test_no_worker_stays_behind(stage: Stage) -> None:
    preview = await stage.publish(site("a"))
    for url in (preview.latest_url, on_the_common_host(preview)):
        page = await stage.open(url)
        registered = await outcome(page, "await navigator.serviceWorker.register('sw.js'); return 1")
        assert registered in ("SecurityError", "TypeError", "NotSupportedError", "InvalidStateError"), url
        blob = "URL.createObjectURL(new Blob(['postMessage(1)']))"
        for kind in ("Worker", "SharedWorker"):
            script = f"const w = new {kind}({blob}); return await new Promise(d => {{ w.onerror = () => d('failed'); "
            script += "(w.port || w).onmessage = () => d('ran') })"
            assert await outcome(page, script) != "ok ran", kind


async def test_the_api_is_out_of_reach(stage: Stage) -> None:
    preview = await stage.publish(site("a"))
    for url in (preview.latest_url, on_the_common_host(preview)):
        page = await stage.open(url)
        key = "{headers: {'X-API-Key': 'test-key'}}"
        for path in ("/health", "/tasks"):
            assert await outcome(page, f"return (await fetch('{stage.api}{path}', {key})).status") == "TypeError"
            assert (
                await outcome(page, f"return (await fetch('{stage.api}{path}', {{mode: 'no-cors'}})).type")
                == "TypeError"
            )
        stream = f"const s = new EventSource('{stage.api}/events/stream?api_key=test-key&run_id={uuid4()}');"
        assert (
            await outcome(page, f"{stream} return await new Promise(d => {{ s.onerror = () => d('closed') }})")
            == "ok closed"
        )
        socket = f"const s = new WebSocket('{stage.api.replace('http', 'ws')}/');"
        assert await outcome(page, f"{socket} return await new Promise(d => {{ s.onerror = () => d('closed') }})") in (
            "ok closed",
            "SecurityError",
        )
        framed = f"const f = document.createElement('iframe'); f.src = '{stage.api}/health'; document.body.append(f);"
        framed += "await new Promise(d => { f.onload = d }); return f.contentDocument ? 'read' : 'closed'"
        assert await outcome(page, framed) == "ok closed"


async def test_forms_go_to_their_own_host_only(stage: Stage) -> None:
    preview = await stage.publish(site("a"))
    page = await stage.open(preview.latest_url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    send = f"const f = document.createElement('form'); f.method = 'post'; f.action = '{stage.api}/tasks';"
    blocked = "document.addEventListener('securitypolicyviolation', e => { window.blocked = e.violatedDirective });"
    await page.evaluate(f"() => {{ {blocked} {send} document.body.append(f); f.submit() }}")
    await page.wait_for_function("window.blocked === 'form-action'")
    assert not [url for url in asked if url.startswith(stage.api)]


async def test_devices_are_off(stage: Stage) -> None:
    preview = await stage.publish(site("a"))
    page = await stage.open(preview.latest_url)
    for feature in ("camera", "microphone", "geolocation", "usb", "payment"):
        assert await page.evaluate(f"document.featurePolicy.allowsFeature('{feature}')") is False, feature


async def test_on_the_common_host_a_site_has_no_origin(stage: Stage) -> None:
    files = site("a")
    files["index.html"] = str(files["index.html"]).replace('"/', '"').replace("=/", "=")  # relative addresses
    preview = await stage.publish(files)
    page = await stage.open(on_the_common_host(preview))
    await page.wait_for_function("document.title === 'Hello from a'")  # its module script comes all the same
    assert await page.evaluate("window.origin") == "null"
    for storage in ("localStorage.length", "document.cookie", "sessionStorage.length", "(await indexedDB.open('x'))"):
        assert await outcome(page, f"return {storage}") in ("SecurityError", "ok [object IDBOpenDBRequest]"), storage
    assert await outcome(page, "return (await (await fetch('data.json')).json()).name") == "ok a"
    await page.click("#go")
    assert await page.inner_text("#view") == "orders"


async def test_the_cockpit_may_embed_a_preview_and_strangers_may_not(stage: Stage) -> None:
    preview = await stage.publish(site("a"))
    embed = "() => { document.body.append(document.createElement('iframe')) }"
    for origin in (stage.frames, stage.strangers):
        page = await stage.open(origin)
        await page.evaluate(embed)
        frame = page.frames[1]
        if origin == stage.frames:
            await frame.goto(preview.latest_url)
            await frame.wait_for_function("document.title === 'Hello from a'")
        else:
            with pytest.raises(Exception, match="ERR_BLOCKED_BY_RESPONSE"):
                await frame.goto(preview.latest_url)


async def test_a_picture_runs_nothing_and_unknown_bytes_are_saved(stage: Stage) -> None:
    preview = await stage.publish(site("a"))
    page = await stage.open(f"{preview.latest_url}logo.svg")
    assert await page.evaluate("document.documentElement.id") == ""
    page = await stage.open(preview.latest_url)
    async with page.expect_download() as saved:
        await page.evaluate("location = 'tool.bin'")
    assert (await saved.value).suggested_filename == "tool.bin"


async def test_a_shared_file_runs_nothing_and_a_link_that_is_over_says_so(stage: Stage) -> None:
    world = stage.world
    ref = await world.put(b"<title>still</title><script>document.title = 'ran'</script>", "text/html")
    added = await world.ask(AddArtifact(command_id=uuid4(), task_id=world.task(), name="report.html", ref=ref))
    share = await world.ask(CreateShare(command_id=uuid4(), artifact_id=added.id))
    page = await stage.open(share.url)
    assert await page.title() == "still"
    await world.ask(RevokeShare(command_id=uuid4(), share_id=share.id))

    async def says_that_it_is_over() -> bool:
        await page.reload()
        return await page.title() == "This link is over"

    await eventually(says_that_it_is_over, what="the page of a link that is over")
