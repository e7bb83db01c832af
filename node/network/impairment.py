"""What a devnet has wrong with one link on purpose: loss and delay of what leaves on it."""

from __future__ import annotations

from random import Random

from node.network.links import NO_FAULT, LinkFault


class Impairment:
    """The fault of one peer's links, and its draws.

    The draws depend on the seed, both ends and the number of payloads alone, and go on when the
    same fault is ordered again.
    """

    def __init__(self, pair: str) -> None:
        """`pair`: names of sender and receiver, so that each link draws for itself."""
        self.fault = NO_FAULT
        self.lost_payloads = 0
        self._pair = pair
        self._random = Random()

    def change(self, fault: LinkFault) -> None:
        """From here on, this is wrong."""
        if fault != self.fault:
            self.fault = fault
            self._random = Random(f"{fault.seed} {self._pair}")

    def loses(self) -> bool:
        """Whether the next payload is lost; counts it if so."""
        if self.fault.loss and self._random.random() < self.fault.loss:
            self.lost_payloads += 1
            return True
        return False

    def delay(self) -> float:
        """Seconds by which the next payload leaves later."""
        fault = self.fault
        if fault.jitter_ms:
            return (fault.delay_ms + self._random.random() * fault.jitter_ms) / 1000
        return fault.delay_ms / 1000
