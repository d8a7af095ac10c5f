"""Which site, which file, which bytes: decided without a server."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.conditions import Part, Unsatisfiable, is_known, part, tag, takes_gzip
from contracts.plan import Deliverable
from services.publisher.domain.destination import CommonHost, OwnHost, Place, SharedHost, host, place, within
from services.publisher.domain.isolation import Mode, headers, of_picture
from services.publisher.domain.lookup import File, Folder, find
from services.publisher.domain.paths import flaw

LABEL = "abcdefghijklmnopqrstuvwxyz234567"
TASK = UUID("6f1c5a1e-58a3-4b43-9d21-0a3f5f0c9f11")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"{LABEL}.localhost:8001", OwnHost(LABEL, "latest")),
        (f"{LABEL.upper()}.LOCALHOST", OwnHost(LABEL, "latest")),
        (f"{LABEL}--approved.localhost", OwnHost(LABEL, "approved")),
        (f"{LABEL}--v12.localhost:8001", OwnHost(LABEL, 12)),
        (f"share-{LABEL}.localhost:8001", SharedHost(LABEL)),
        ("localhost:8001", CommonHost()),
        ("127.0.0.1:8001", CommonHost()),
        ("[::1]:8001", CommonHost()),
        (f"{LABEL}--v0.localhost", None),
        (f"{LABEL}--v1x.localhost", None),
        (f"{LABEL}.example.com", None),
        (f"x.{LABEL}.localhost", None),
        ("share-.localhost", None),
        ("api.localhost", None),
        ("", None),
    ],
)
def test_a_host_names_a_site_a_version_a_share_or_nothing(header: str, found: object) -> None:
    assert host(header, "localhost") == found


def test_hosts_lie_below_the_domain_that_is_ours() -> None:
    assert host(f"{LABEL}.previews.example.com", "previews.example.com") == OwnHost(LABEL, "latest")
    assert host(f"{LABEL}.localhost", "previews.example.com") is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/acme/web/{TASK}/", Place("acme", "web", TASK, "latest", "")),
        (f"/acme/web/{TASK}/a/b.css", Place("acme", "web", TASK, "latest", "a/b.css")),
        (f"/acme/web/{TASK}", Place("acme", "web", TASK, "latest", None)),
        (f"/acme/web/{TASK}/~v3/app.js", Place("acme", "web", TASK, 3, "app.js")),
        (f"/acme/web/{TASK}/~approved/", Place("acme", "web", TASK, "approved", "")),
        (f"/acme/web/{TASK}/~approved", Place("acme", "web", TASK, "approved", None)),
        (f"/acme/web/{TASK}/~vx/", Place("acme", "web", TASK, "latest", "~vx/")),
        (f"/acme/web/{str(TASK).upper()}/", None),
        (f"/Acme/web/{TASK}/", None),
        ("/acme/web/1/", None),
        ("/acme/web", None),
        (f"//acme/web/{TASK}/", None),
        ("/", None),
    ],
)
def test_a_path_on_the_common_host_names_company_project_task_and_version(path: str, found: object) -> None:
    assert place(path) == found


def test_on_its_own_host_a_site_lies_at_the_top_and_at_its_task_s_address() -> None:
    own = ("acme", "web", TASK)
    assert within("/", *own) == ""
    assert within("/a.css", *own) == "a.css"
    assert within(f"/acme/web/{TASK}/a.css", *own) == "a.css"
    assert within(f"/acme/web/{TASK}", *own) is None
    assert within(f"/acme/web/{TASK}x", *own) == f"acme/web/{TASK}x"


FILES = {"index.html", "app.js", "docs/index.html", "about.html", "LICENSE", "data.v2/list"}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", File("index.html")),
        ("index.html", File("index.html")),
        ("app.js", File("app.js")),
        ("LICENSE", File("LICENSE")),
        ("docs", Folder()),
        ("docs/", File("docs/index.html")),
        ("about", File("about.html")),
        ("action", File("index.html")),
        ("users/7/edit", File("index.html")),
        ("users/7/", File("index.html")),
        ("release/v1.2/notes", File("index.html")),
        ("app.css", None),
        ("assets/missing.js", None),
        ("img/logo.png/", None),
        ("../index.html", None),
    ],
)
def test_a_page_of_the_application_is_its_first_page_and_a_missing_asset_is_missing(asked: str, found: object) -> None:
    assert find(FILES, "index.html", asked) == found


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None),
        ("bytes=0-9", Part(0, 9)),
        ("bytes=10-", Part(10, 99)),
        ("bytes=-10", Part(90, 99)),
        ("bytes=-1000", Part(0, 99)),
        ("bytes=90-1000", Part(90, 99)),
        ("bytes=5-2", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_one_range_is_a_part_and_anything_else_is_all_of_it(header: str | None, found: Part | None) -> None:
    assert part(header, None, '"x"', 100) == found


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        part(header, None, '"x"', size)


def test_a_part_of_something_else_is_all_of_it() -> None:
    assert part("bytes=0-1", '"old"', '"new"', 100) is None
    assert part("bytes=0-1", '"new"', '"new"', 100) == Part(0, 1)
    assert part("bytes=0-1", "Wed, 21 Oct 2015 07:28:00 GMT", '"new"', 100) is None


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 300))
def test_a_part_lies_inside(first: int, last: int, size: int) -> None:
    try:
        found = part(f"bytes={first}-{last}", None, "x", size)
    except Unsatisfiable:
        assert first >= size
        return
    assert found is None or 0 <= found.first <= found.last < size


def test_what_is_known_is_known_in_either_encoding() -> None:
    plain, packed = tag("a" * 64), tag("a" * 64, "gzip")
    assert plain != packed
    assert is_known(f'"other", W/{packed}', plain, packed)
    assert is_known("*", plain)
    assert not is_known('"other"', plain, packed)
    assert not is_known(None, plain)


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *;q=0", False),
        ("br", False),
        ("", False),
        (None, False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(header: str | None, takes: bool) -> None:
    assert takes_gzip(header) is takes


def test_only_a_host_of_its_own_gives_a_site_an_origin() -> None:
    policies = {mode: dict(headers(mode, ("https://cockpit.example",)))[b"content-security-policy"] for mode in Mode}
    assert b"allow-same-origin" in policies[Mode.OWN]
    assert b"allow-same-origin" not in policies[Mode.COMMON]
    assert b"allow-scripts" not in policies[Mode.DELIVERED]
    assert all(b"frame-ancestors https://cockpit.example" in policy for policy in policies.values())
    assert b"frame-ancestors 'none'" in dict(headers(Mode.OWN, ()))[b"content-security-policy"]


def test_a_picture_may_do_nothing() -> None:
    assert dict(of_picture(headers(Mode.OWN, ())))[b"content-security-policy"].startswith(
        b"sandbox; default-src 'none'"
    )


@pytest.mark.parametrize("name", ["_next/pages/[id]-1f.js", "routes/$slug.js", "(group)/page.html", "a=b,c!.txt"])
def test_names_that_bundlers_write_are_taken(name: str) -> None:
    assert flaw(name) is None
    assert Deliverable(path=name).path == name
