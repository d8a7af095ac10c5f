"""Is a host one of the names that only this machine's own programs have for it?"""

from __future__ import annotations

import re

#: with any port. Browsers resolve *.localhost to loopback without asking anybody
OWN_NAME = re.compile(r"((?:[\w-]+\.)*localhost\.?|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)


def is_own_name(host: str) -> bool:
    return OWN_NAME.fullmatch(host) is not None
