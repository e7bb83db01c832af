"""The node's wall clock: the one place in a node that reads it for block times and admission.

Timers never use it. On a devnet the control socket may set it wrong on purpose (`offset_ms`), to
show what a node with a bad clock does; nothing else ever changes it.
"""

from __future__ import annotations

import time


class WallClock:
    """Milliseconds since the Unix epoch, as this node believes."""

    def __init__(self) -> None:
        self.offset_ms = 0
        """How far this clock is off on purpose, milliseconds; 0 but in a devnet's experiments."""

    def set_offset(self, milliseconds: int) -> None:
        """Have the clock be off by so much from now on."""
        self.offset_ms = milliseconds

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return int(time.time() * 1000) + self.offset_ms
