"""Of what type is a file? By its extension, from a table that no machine's settings change; what is unknown is bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from contracts.plan import ArtifactKind

UNKNOWN = "application/octet-stream"
MARKDOWN, HTML, TEXT, JSON = "text/markdown", "text/html", "text/plain", "application/json"
ZIP = "application/zip"

TYPES: Mapping[str, str] = {
    # pages
    "html": HTML,
    "htm": HTML,
    "xhtml": "application/xhtml+xml",
    "css": "text/css",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "cjs": "text/javascript",
    "wasm": "application/wasm",
    "map": JSON,
    "webmanifest": "application/manifest+json",
    # texts
    "md": MARKDOWN,
    "markdown": MARKDOWN,
    "txt": TEXT,
    "log": TEXT,
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "ics": "text/calendar",
    "vtt": "text/vtt",
    "json": JSON,
    "jsonl": "application/x-ndjson",
    "ndjson": "application/x-ndjson",
    "geojson": "application/geo+json",
    "xml": "application/xml",
    "rss": "application/rss+xml",
    "atom": "application/atom+xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "toml": "application/toml",
    "pdf": "application/pdf",
    "rtf": "application/rtf",
    # images
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "ico": "image/x-icon",
    "svg": "image/svg+xml",
    # fonts
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
    # sound and pictures that move
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "webm": "video/webm",
    "ogv": "video/ogg",
    "mov": "video/quicktime",
    # what is stored, not shown
    "zip": ZIP,
    "gz": "application/gzip",
    "tar": "application/x-tar",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "epub": "application/epub+zip",
}
DOCUMENTS = frozenset({MARKDOWN, HTML, TEXT, JSON, "application/pdf", "application/xhtml+xml"})


@lru_cache(maxsize=4096)
def content_type_of(name: str) -> str:
    """Without parameters: `text/…` of ours is UTF-8."""
    last = name.rsplit("/", 1)[-1]
    stem, dot, extension = last.rpartition(".")
    return TYPES.get(extension.lower(), UNKNOWN) if dot and stem else UNKNOWN


def is_text(content_type: str) -> bool:
    if content_type.startswith("text/"):
        return True
    return content_type == "image/svg+xml" or content_type.rsplit("/", 1)[-1].rsplit("+", 1)[-1] in (
        *("json", "xml", "yaml", "toml", "x-ndjson"),
    )


def kind_of(content_type: str) -> ArtifactKind:
    if content_type.startswith("image/"):
        return ArtifactKind.IMAGE
    return ArtifactKind.DOCUMENT if content_type in DOCUMENTS else ArtifactKind.FILE
