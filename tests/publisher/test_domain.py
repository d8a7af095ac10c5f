"""What publisher decides: what is kept, where things are served, of what type they are, what may be written."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.plan import ArtifactKind
from contracts.previews import PreviewState
from services.publisher.domain.addresses import Origin, label_of
from services.publisher.domain.limits import MOST_BYTES, MOST_FILES, refusal
from services.publisher.domain.media import UNKNOWN, content_type_of, is_text, kind_of
from services.publisher.domain.outputs import LONGEST_SUMMARY, document, summary_of
from services.publisher.domain.retention import Kept, beyond, latest_of, why_kept
from services.publisher.domain.states import FINAL, LEGAL
from services.publisher.domain.versions import compared, latest_after

VERSION = st.builds(
    dict,
    state=st.sampled_from(sorted(PreviewState)),
    approved=st.booleans(),
    shared=st.booleans(),
    named=st.booleans(),
)


@st.composite
def sites(draw: st.DrawFn) -> list[Kept]:
    """The newest first; the latest is the newest that is ready."""
    drawn = draw(st.lists(VERSION, max_size=12))
    newest = next((i for i, each in enumerate(drawn) if each["state"] == PreviewState.READY), None)
    fields = {"id": uuid4(), "run_id": None, "size": 1}
    return [Kept(version=len(drawn) - i, latest=i == newest, **fields, **each) for i, each in enumerate(drawn)]


@given(sites(), st.integers(1, 5))
def test_retention_takes_only_what_nobody_looks_at_and_leaves_so_many_that_open(
    versions: list[Kept], keep: int
) -> None:
    gone = list(beyond(versions, keep))
    for each in gone:
        assert not any((each.latest, each.approved, each.shared, each.named))
        assert each.state in FINAL
    left = [each for each in versions if each not in gone]
    opening = [each for each in versions if each.state == PreviewState.READY]
    assert opening[:keep] == [each for each in left if each.state == PreviewState.READY][: len(opening[:keep])]
    assert latest_of(left) == latest_of(versions)
    assert list(beyond(left, keep)) == [], "what is left is not looked at again"


@given(sites(), st.integers(1, 5))
def test_beside_what_is_kept_for_a_reason_there_are_never_more_than_were_asked_for(
    versions: list[Kept], keep: int
) -> None:
    left = [each for each in versions if each not in list(beyond(versions, keep))]
    for_no_reason = [each for each in left if why_kept(each) is None and not each.latest and not each.named]
    assert len([each for each in for_no_reason if each.state == PreviewState.READY]) <= keep
    assert len([each for each in for_no_reason if each.state == PreviewState.FAILED]) <= keep


def test_a_preview_moves_to_its_end_and_stays_there() -> None:
    assert set(LEGAL) == set(PreviewState)
    assert {PreviewState.READY, PreviewState.FAILED} == FINAL


def test_a_version_that_comes_late_is_not_the_latest() -> None:
    assert [latest_after(None, 1), latest_after(1, 2), latest_after(2, 1)] == [1, 2, 2]


def test_versions_differ_by_bytes_not_by_sizes() -> None:
    before = {"a": ("1", 5), "b": ("2", 5), "c": ("3", 5)}
    after = {"a": ("1", 5), "b": ("9", 5), "d": ("3", 5)}
    added, removed, changed, same = compared(before, after)
    assert (added, removed, [c.path for c in changed], same) == (["d"], ["c"], ["b"], 1)


def test_every_site_and_every_version_has_a_host_of_its_own() -> None:
    task, label = uuid4(), label_of(bytes(range(20)))
    assert len(label) == 32
    local, fleet = Origin.of("http://localhost:8001"), Origin.of("https://previews.example.com")
    assert local.latest(label, "acme", "web", task) == f"http://{label}.localhost:8001/acme/web/{task}/"
    assert local.version(label, 3, "acme", "web", task) == f"http://{label}--v3.localhost:8001/acme/web/{task}/"
    assert fleet.latest(label, "acme", "web", task) == f"https://{label}.previews.example.com/acme/web/{task}/"
    assert fleet.share("s") == "https://share-s.previews.example.com/"
    longest = f"{label}--v999999999"
    assert len(longest) <= 63, "a part of a host's name is no longer"


@pytest.mark.parametrize(
    ("name", "content_type", "kind"),
    [
        ("a/index.HTML", "text/html", "document"),
        ("report.pdf", "application/pdf", "document"),
        ("shot.png", "image/png", "image"),
        ("data.csv", "text/csv", "file"),
        ("app.js", "text/javascript", "file"),
        ("Makefile", UNKNOWN, "file"),
        (".html", UNKNOWN, "file"),
        ("a.b/c", UNKNOWN, "file"),
        ("x.exe", UNKNOWN, "file"),
    ],
)
def test_a_type_follows_from_the_extension_alone(name: str, content_type: str, kind: str) -> None:
    assert content_type_of(name) == content_type
    assert kind_of(content_type) == ArtifactKind(kind)


def test_what_is_text_has_a_beginning() -> None:
    assert [is_text(t) for t in ("text/csv", "application/json", "image/svg+xml", "image/png", "application/pdf")] == [
        *(True, True, True, False, False)
    ]
    assert summary_of("  x\0y  ", "text/plain") == "x\ufffdy"
    assert len(summary_of("x" * 999, "text/plain") or "") == LONGEST_SUMMARY
    assert (summary_of("x", "image/png"), summary_of("  ", "text/plain")) == (None, None)


@given(st.text(max_size=200), st.sampled_from(["json", "csv", "nonsense", "", " HTML "]))
def test_any_result_is_a_document_with_a_name(text: str, format: str) -> None:
    found = document("key", text, {"output_format": format})
    assert found.name.startswith("key.")
    assert found.content_type != UNKNOWN
    assert found.text in text


def test_so_many_files_and_bytes_and_no_more() -> None:
    written = {f"{n}.txt": 1 for n in range(MOST_FILES)}
    assert "no more than 200" in (refusal("more.txt", 1, written) or "")
    assert refusal("0.txt", 1, written) is None
    assert refusal("a", MOST_BYTES, {}) is None
    assert "0 are left" in (refusal("b", 1, {"a": MOST_BYTES}) or "")
