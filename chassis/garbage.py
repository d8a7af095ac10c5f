"""How often Python looks for garbage: seldom, from the moment this is imported.

`chassis.service` imports it before all that is large: a module that is loaded is no garbage, and looking took 0.1 s.
"""

from __future__ import annotations

import gc

gc.set_threshold(50_000, 20, 100)


def spare_what_is_there() -> None:
    """What a process holds after its start it holds to its end: not looked at again, or it is a tenth of all CPU."""
    gc.collect()
    gc.freeze()
