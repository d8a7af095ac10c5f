"""What a browser may do with what strangers wrote: the headers of previews, as measured in real Chromium.

A site on its own host keeps its own storage, module scripts and history; it has no worker, no opener, no device, and
talks to its own host only. On the host that all sites have in common it runs in a sandbox without an origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

Headers = tuple[tuple[bytes, bytes], ...]

MAY = "allow-scripts allow-forms allow-modals allow-downloads allow-popups allow-popups-to-escape-sandbox allow-pointer-lock"
OFF = (
    *(
        "accelerometer",
        "autoplay",
        "bluetooth",
        "camera",
        "display-capture",
        "encrypted-media",
        "geolocation",
        "gyroscope",
    ),
    *(
        "hid",
        "idle-detection",
        "local-fonts",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "publickey-credentials-get",
    ),
    *("screen-wake-lock", "serial", "storage-access", "usb", "web-share", "xr-spatial-tracking"),
)
PICTURE = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
SVG = "image/svg+xml"


class Mode(Enum):
    OWN = "own"  # a host of its own
    COMMON = "common"  # the host that all sites share
    DELIVERED = "delivered"  # a single file behind a shared link


def headers(mode: Mode, frames: Sequence[str]) -> Headers:
    """What every answer carries. `frames` are the origins that may embed a preview."""
    embedding = f"frame-ancestors {' '.join(frames) or chr(39) + 'none' + chr(39)}"
    policies = {
        Mode.OWN: f"sandbox {MAY} allow-same-origin; worker-src 'none'; connect-src 'self'; object-src 'none';"
        f" base-uri 'self'; form-action 'self'; {embedding}",
        Mode.COMMON: f"sandbox {MAY}; worker-src 'none'; connect-src 'self'; object-src 'none'; {embedding}",
        Mode.DELIVERED: f"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; {embedding}",
    }
    common = {
        "content-security-policy": policies[mode],
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "permissions-policy": ", ".join(f"{feature}=()" for feature in OFF),
        "x-robots-tag": "noindex, nofollow",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "cross-origin" if mode is Mode.COMMON else "same-origin",
        "origin-agent-cluster": "?1",
    }
    if mode is Mode.COMMON:
        common["access-control-allow-origin"] = "*"  # its module scripts come from no origin
    return tuple((name.encode(), value.encode()) for name, value in common.items())


def of_picture(common: Headers) -> Headers:
    """An SVG that is opened by itself is a document, and could hold scripts."""
    return tuple((name, PICTURE.encode() if name == b"content-security-policy" else value) for name, value in common)
