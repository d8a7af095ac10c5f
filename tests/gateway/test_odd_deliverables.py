"""Deliverables with odd names, types and sizes: stored and given back, or refused with what to do, and never a 500."""

from __future__ import annotations

import io
import zipfile

import httpx

from tests.gateway.test_routes_deliverables import TASK, ended, http

__all__ = ["http"]

PLACE = f"/tasks/{TASK}/artifacts"


def a_form(filename: bytes, content_type: bytes = b"text/plain", data: bytes = b"data") -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + filename + b'"\r\n'
    return head + b"Content-Type: " + content_type + b"\r\n\r\n" + data + b"\r\n--x--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
NAMES = {
    "nul": b"a\x00b.txt",
    "escape": b"\x1b[2Jevil.txt",
    "quote": b'a\\"b.txt',
    "umlaut": "ü.txt".encode(),
    "latin": b"\xfc.txt",
    "long": b"a" * 500 + b".txt",
    "spaces": b"   ",
    "dots": b"..",
    "up": b"../../etc/passwd",
    "newline": b"a%0d%0aSet-Cookie: x=1.txt",
    "rtl": "\u202egpj.exe".encode(),
    "surrogate": b"\xed\xa0\x80.txt",
    "percent": b"%ff%00.txt",
}
TYPES = {
    "latin": b"t\xe9xt/html",
    "none": b"",
    "long": b"a/" + b"b" * 3_000,
    "odd": b"; ;=",
    "control": b"text/\x01html",
    "html": b"text/html; charset=utf-16",
}


async def test_any_name_is_kept_or_refused_and_comes_back_on_one_line(http: httpx.AsyncClient) -> None:
    for what, name in NAMES.items():
        answer = await http.post(PLACE, content=a_form(name), headers=FORM)
        assert answer.status_code in (201, 422), (what, answer.text)
        if answer.status_code == 201:
            got = await http.get(f"{answer.headers['Location']}/download")
            assert got.content == b"data", what
            assert got.headers["Content-Disposition"].startswith("attachment; "), what
            assert "set-cookie" not in got.headers
            assert (await http.get(f"{answer.headers['Location']}?render=html")).status_code in (200, 415), what


async def test_whatever_type_a_file_is_said_to_have_it_is_the_one_of_its_name(http: httpx.AsyncClient) -> None:
    for what, content_type in TYPES.items():
        data = what.encode()
        answer = await http.post(PLACE, content=a_form(b"a.txt", content_type, data), headers=FORM)
        assert (answer.status_code, answer.json().get("content_type")) == (201, "text/plain"), (what, answer.text)
    raw = await http.post(f"{PLACE}?name=b.txt", content=b"raw", headers=[(b"content-type", "té/xt; a=b".encode())])
    assert (raw.status_code, raw.json().get("content_type")) == (201, "text/plain"), raw.text


async def test_versions_of_two_thousand_long_names_are_compared(http: httpx.AsyncClient) -> None:
    versions = []
    for version in (1, 2):
        into = io.BytesIO()
        with zipfile.ZipFile(into, "w") as archive:
            archive.writestr("index.html", "<p>")
            for number in range(1_999):
                archive.writestr(f"{'folder/' * 18}{version}{'n' * 90}{number}.js", "")
        sent = await http.post(
            f"/tasks/{TASK}/previews/publish", content=into.getvalue(), headers={"Content-Type": "application/zip"}
        )
        versions.append(await ended(http, sent.headers["Location"]))
    answer = await http.get(f"/tasks/{TASK}/previews/compare?from=1&to=2")
    assert answer.status_code == 200, answer.text
    assert (len(answer.json()["added"]), len(answer.json()["removed"]), answer.json()["same"]) == (1_999, 1_999, 1)
