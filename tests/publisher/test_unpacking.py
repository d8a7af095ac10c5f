"""Archives of people and programs, and of those who wish us ill: what is unpacked, what is refused, and what it may cost."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from contracts.errors import Code, Rejection
from contracts.plan import FilePath
from services.publisher.adapters.unpacker import Unpacked, Unpacker
from services.publisher.domain.paths import NoSite, flaw
from services.publisher.unpacking.__main__ import unpack
from services.publisher.unpacking.archive import LARGEST_FILE
from services.publisher.unpacking.directory import Refused
from tests.publisher.hostile_bytes import HOSTILE
from tests.publisher.zips import FOLLOWS, INDEX, STORED, File, deflated, folder, make, with_index

GENERATED = 200
PATHS = TypeAdapter(FilePath)


class Place:
    """Directories around the one that may be written."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.archive = top / "sent.zip"
        self.into = top / "a" / "b" / "c" / "into"
        self.into.mkdir(parents=True)

    async def unpack(self, data: bytes, entry: str | None = None) -> Unpacked:
        self.archive.write_bytes(data)
        return await Unpacker().unpack(self.archive, self.into, entry)

    def written(self) -> set[Path]:
        """Everything that is somewhere it was not before."""
        before = {self.archive, *self.into.parents, self.into}
        return {path for path in self.top.rglob("*") if path not in before}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(HOSTILE) >= 150


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_is_refused_with_what_is_wrong_and_writes_nothing_elsewhere(
    name: str, place: Place
) -> None:
    made, says = HOSTILE[name]
    with pytest.raises(Rejection, match=says) as refused:
        await place.unpack(made())
    message = refused.value.failure.message
    assert refused.value.failure.code is Code.INVALID
    assert message.isprintable()
    assert len(message) < 500
    assert {path.parent for path in place.written()} <= {place.into}
    assert sum(path.stat().st_size for path in place.written()) <= 200 << 20
    assert not [name for name in os.listdir("/tmp") if "fluidcrew-evil" in name]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def contents(place: Place, found: Unpacked) -> dict[str, bytes]:
    read = {path: (place.into / digest).read_bytes() for path, (digest, _) in found.files.items()}
    assert {path: (sha256(data), len(data)) for path, data in read.items()} == found.files
    assert {path.name for path in place.written()} == {digest for digest, _ in found.files.values()}
    return read


SITE = {"index.html": INDEX.data, "assets/app.js": b"export {}", "assets/deep/a~b@2x +1.png": b"\x89PNG"}
FILES = [File(path, data) for path, data in SITE.items()]


def by_zipfile(files: dict[str, bytes], *, streamed: bool = False) -> bytes:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return not streamed

        def tell(self) -> int:
            if streamed:
                raise OSError("a pipe has no place")
            return super().tell()

    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out.getvalue()


WELL_FORMED = {
    "written by a library": by_zipfile(SITE),
    "written into a pipe": by_zipfile(SITE, streamed=True),
    "not compressed": make(*(File(path, data, STORED) for path, data in SITE.items())),
    "with its folders": make(folder("assets/"), folder("assets/deep/"), folder("empty/"), *FILES),
    "below one folder": make(*(File(f"site-main/{path}", data) for path, data in SITE.items())),
    "below two folders": make(*(File(f"a/b/{path}", data) for path, data in SITE.items())),
    "below a folder that is listed": make(folder("s/"), *(File(f"s/{path}", data) for path, data in SITE.items())),
    "with what macOS adds": make(
        *FILES, File("__MACOSX/._index.html"), File(".DS_Store"), File("assets/.DS_Store"), File("__MACOSX/über")
    ),
    "with macOS's additions beside one folder": make(
        *(File(f"s/{path}", data) for path, data in SITE.items()), File("__MACOSX/s/._index.html")
    ),
    "with a comment": make(*FILES, comment=b"made by hand"),
    "with times and owners": make(*(File(f.name, f.data, extra=b"UT\x05\x00\x03abcd") for f in FILES)),
    "aligned with zeros": make(*(File(f.name, f.data, extra=bytes(3)) for f in FILES)),
    "with room between its files": make(
        *(File(f.name, f.data, before=bytes(10) if n else b"") for n, f in enumerate(FILES))
    ),
    "sizes behind the data": make(
        *(
            File(f.name, f.data, flags=FOLLOWS, local={"crc": 0, "packed": 0, "size": 0}, descriptor=bytes(16))
            for f in FILES
        )
    ),
    "in another order": make(*reversed(FILES)),
    "from a system without rights": make(*(File(f.name, f.data, attributes=0x20, system=0) for f in FILES)),
    "with rights of its own": make(*(File(f.name, f.data, attributes=0o104755 << 16) for f in FILES)),
    "packed as well as can be": make(*(File(f.name, f.data, packed=deflated(f.data, 9)) for f in FILES)),
}


@pytest.mark.parametrize("how", WELL_FORMED)
async def test_an_archive_as_people_and_programs_make_them_is_unpacked(how: str, place: Place) -> None:
    found = await place.unpack(WELL_FORMED[how])
    assert found.entry == "index.html"
    assert contents(place, found) == SITE


async def test_an_archive_within_an_archive_is_a_file_that_nobody_opens(place: Place) -> None:
    inner = with_index(File("../evil.html"))
    assert contents(place, await place.unpack(with_index(File("inner.zip", inner))))["inner.zip"] == inner


async def test_what_is_as_large_as_it_may_be_is_unpacked(place: Place) -> None:
    data = ((random.Random(1).randbytes(512) + bytes(50 * 1024)) * 508)[:LARGEST_FILE]
    large = File("large.bin", data, packed=deflated(data))
    many = (File(f"{n}.txt", b"") for n in range(1991))
    parts = [File(f"{n}.bin", large.data, packed=large.packed) for n in range(8)]
    found = await place.unpack(make(File("index.html", b""), *parts, *many))
    assert len(found.files) == 2000
    assert sum(size for _, size in found.files.values()) == 200 << 20
    assert len(place.written()) == 2, "what is the same is kept once"


async def test_a_small_file_may_shrink_to_nothing(place: Place) -> None:
    assert len((await place.unpack(with_index(File("blank.svg", bytes(990_000))))).files) == 2


@pytest.mark.parametrize(
    ("entry", "shown", "served"),
    [
        (None, "index.html", {"index.html", "home.html", "docs/a.html", "docs/b.htm", "app.js"}),
        ("home.html", "home.html", {"index.html", "home.html", "docs/a.html", "docs/b.htm", "app.js"}),
        ("site/home.html", "home.html", {"index.html", "home.html", "docs/a.html", "docs/b.htm", "app.js"}),
        ("docs/a.html", "a.html", {"a.html", "b.htm"}),
        ("site/docs/b.htm", "b.htm", {"a.html", "b.htm"}),
    ],
)
async def test_the_folder_of_the_page_that_opens_first_is_the_site(
    entry: str | None, shown: str, served: set[str], place: Place
) -> None:
    names = ("index.html", "home.html", "docs/a.html", "docs/b.htm", "app.js")
    found = await place.unpack(make(*(File(f"site/{name}", name.encode()) for name in names)), entry)
    assert (found.entry, set(found.files)) == (shown, served)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (None, r"no 'index.html'; add it, or name .* \(there are 'home.html', 'docs/a.html'\)"),
        ("start.html", r"no 'start.html'; name a page as `entry` that is there \('home.html', 'docs/a.html'\)"),
        ("app.js", r"'app.js' is no HTML page"),
        ("../home.html", r"no '../home.html'"),
        ("docs", r"no 'docs'"),
    ],
)
async def test_a_page_that_is_not_there_is_said_with_those_that_are(entry: str | None, says: str, place: Place) -> None:
    archive = make(File("home.html"), File("docs/a.html"), File("app.js"))
    with pytest.raises(Rejection, match=says):
        await place.unpack(archive, entry)


def test_a_name_is_a_path_for_archives_and_for_messages_alike() -> None:
    given = [file for name in HOSTILE for file in name.split("-")] + [
        *SITE,
        "a b/c",
        " a",
        ".a",
        "a/",
        "/a",
        "a" * 101,
        "é",
    ]
    rng = random.Random(3)
    given += ["".join(rng.choices("aZ0._~@+- /\\:%é\x00", k=rng.randint(0, 12))) for _ in range(3000)]
    given += ["/".join(["a" * 14] * n) for n in (20, 21)] + [
        "a" * 100,
        "/".join(["a" * 60] * 5)[:300],
        "/".join(["b" * 60] * 5),
    ]
    for path in given:
        assert (flaw(path) is None) == is_file_path(path), path


def is_file_path(path: str) -> bool:
    try:
        PATHS.validate_python(path)
    except ValidationError:
        return False
    return True


def mutant(rng: random.Random) -> bytes:
    """A good archive to which something has happened, once or a few times."""
    data = bytearray(rng.choice(list(WELL_FORMED.values())))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(data))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + 2] = rng.choice((0, 1, 0x7FFF, 0xFFFF)).to_bytes(2, "little")
            case 2:
                data[at : at + 4] = rng.choice((0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, len(data))).to_bytes(4, "little")
            case 3:
                del data[at : at + rng.choice((1, 4, 40))]
            case 4:
                data[at:at] = data[rng.randrange(len(data)) :][: rng.choice((1, 4, 46, 100))]
            case 5:
                for header in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"):
                    if (found := data.find(header, at)) >= 0:
                        field = found + rng.randrange(4, 46)
                        data[field : field + 1] = rng.randbytes(1)
            case 6:
                name = rng.choice((b"../../evil", b"/etc/passwd", b"index.HTML", b"assets/app"))
                data[at : at + len(name)] = name
    return bytes(data)


@pytest.mark.parametrize("seed", range(0, GENERATED, 50))
def test_a_generated_archive_is_refused_in_words_or_read_as_others_read_it(seed: int, place: Place) -> None:
    unpacked = 0
    for number in range(seed, seed + 50):
        data = mutant(random.Random(number))
        place.archive.write_bytes(data)
        said = said_of(place)
        if isinstance(said, str):
            assert said.isprintable()
        else:
            unpacked += 1
            agrees_with_others(data, said, place)
        assert {path.parent for path in place.written()} <= {place.into}
        empty(place.into)
    assert 0 < unpacked < 50


def said_of(place: Place) -> dict[str, object] | str:
    try:
        return unpack(place.archive, place.into, None)
    except (Refused, NoSite) as refused:
        return str(refused)


def agrees_with_others(data: bytes, said: dict[str, object], place: Place) -> None:
    """Python's own reader finds the same bytes under each of the names."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as other:
            theirs = {name: other.read(name) for name in other.namelist() if not name.endswith("/")}
    except NotImplementedError:  # says that another version is needed, which we do not ask
        return
    for path, digest, size in said["files"]:  # type: ignore[attr-defined]
        assert flaw(path) is None
        ours = (place.into / digest).read_bytes()
        assert (sha256(ours), len(ours)) == (digest, size)
        assert any(name.endswith(path) and their == ours for name, their in theirs.items()), path


def empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()
