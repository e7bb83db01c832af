"""One plain sentence on whether payments become final, and if not, why: from what nodes tell.

Pure functions of status documents, so that `nostro doctor` and `nostro devnet status` say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consensus.messages import quorum

if TYPE_CHECKING:
    from node.api.service import PeerView, StatusView

WAITING_STALL_MS = 10_000
"""Instructions that wait so long while nothing is final: several views were given up."""
IDLE_STALL_MS = 60_000
"""With nothing waiting, and views given up: an idle chain makes a block every few seconds, also
when the views of a dead leader lie between."""


@dataclass(frozen=True, slots=True)
class Progress:
    """ok: payments become final; warn: they do, but one more failure would end that; fail: not."""

    result: str
    text: str


def explain(status: StatusView, now: int) -> Progress:
    """What one node sees. `now`: ms since the epoch, by the clock of the node's machine."""
    if status.validator is None:
        return _observed(status, now)
    total = len(status.peers) + 1
    connected = 1 + sum(peer.connected for peer in status.peers)
    needed = quorum(total)
    begin = f"{connected} of {total} validators connected, {needed} {_verb(needed)} needed"
    parts = [_down(peer, now) for peer in status.peers if not peer.connected]
    if status.alarm is not None:
        parts.append("this node does not sign")
    if connected < needed:
        return Progress("fail", "; ".join([begin, *parts, _nothing_final(status, now)]))
    if _stalled(status, now):
        begin += f", but {_nothing_final(status, now)}"
        return Progress("fail", "; ".join([begin, *parts, _given_up(status)]))
    parts.append(_last_final(status, now))
    if connected == needed < total:
        parts.append("with one more down nothing would become final")
        return Progress("warn", "; ".join([begin, *parts]))
    return Progress("ok", "; ".join([begin, *parts]))


def _observed(status: StatusView, now: int) -> Progress:
    """What a node that is no validator sees: its peers are the sources that it follows."""
    sources = [peer.name for peer in status.peers if peer.connected]
    if not status.peers:
        text = "this node is no validator and follows nobody: name a source under [join] urls"
        return Progress("fail", f"{text}; {_nothing_final(status, now)}")
    if not sources:
        parts = [_down(peer, now) for peer in status.peers]
        begin = f"this node observes, and none of its {len(status.peers)} sources answers"
        return Progress("fail", "; ".join([begin, *parts, _nothing_final(status, now)]))
    if _stalled(status, now):
        text = f"this node observes through {', '.join(sources)}"
        return Progress("fail", f"{text}, but {_nothing_final(status, now)}")
    text = f"this node observes through {', '.join(sources)}"
    if status.follows is not None and status.follows.syncing:
        target = status.follows.target
        return Progress("warn", f"{text}; syncing: height {status.height} of {target}")
    return Progress("ok", f"{text}; {_last_final(status, now)}")


def explain_all(statuses: Sequence[StatusView], now: int) -> Progress:
    """What the nodes that answer see together: one sentence, and whoever sees it otherwise."""
    if not statuses:
        return Progress("fail", "no node answers")
    # An observer that lags says nothing of the network while a validator can be asked.
    asked = [status for status in statuses if status.validator is not None] or statuses
    seen = [(status.node, explain(status, now)) for status in asked]
    stalled = [(node, progress) for node, progress in seen if progress.result == "fail"]
    if len(stalled) == len(seen):
        node, progress = seen[0]
        return Progress("fail", f"seen from {node}: {progress.text}")
    going = [progress for _, progress in seen if progress.result != "fail"]
    best = next((progress for progress in going if progress.result == "warn"), going[0])
    if not stalled:
        return best
    others = "; ".join(f"but seen from {node}: {progress.text}" for node, progress in stalled)
    return Progress("warn", f"{best.text}; {others}")


def _stalled(status: StatusView, now: int) -> bool:
    """Connected, and yet nothing becomes final. Not told by the views alone: a dead leader's are
    given up all the time while the others' settle payments."""
    since = status.finalized_at
    if since is None:
        # It has had no longer than its links have.
        since = min((peer.since for peer in status.peers if peer.since is not None), default=now)
    if status.mempool.instructions:
        return now - since > WAITING_STALL_MS
    return bool(status.given_up) and now - since > IDLE_STALL_MS


def _down(peer: PeerView, now: int) -> str:
    since = "" if peer.since is None else f" since {moment(peer.since, now)}"
    reason = peer.detail.partition(": ")[0]
    return f"{peer.name} unreachable{since}" + (f" ({reason})" if reason else "")


def _nothing_final(status: StatusView, now: int) -> str:
    if status.finalized_at is None:
        since = f"this node started (block {status.height} is of {moment(status.time, now)})"
    else:
        since = moment(status.finalized_at, now)
    return f"nothing final since {since}, {_waiting(status)}"


def _last_final(status: StatusView, now: int) -> str:
    at = f"of {moment(status.time, now)}"
    if status.finalized_at is not None:
        at = f"since {moment(status.finalized_at, now)}"
    return f"block {status.height} is final {at}, {_waiting(status)}"


def _waiting(status: StatusView) -> str:
    waiting = status.mempool.instructions
    if not waiting:
        return "no instruction waits"
    return f"{waiting} instruction waits" if waiting == 1 else f"{waiting} instructions wait"


def _given_up(status: StatusView) -> str:
    if not status.given_up:
        return f"no view was given up since, the current one is {status.view} of {status.leader}"
    views = ", ".join(f"{view.view} of {view.leader}" for view in status.given_up)
    return f"views given up since: {views}"


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def moment(milliseconds: int, now: int) -> str:
    """A time in UTC to the second, with its date if that is another than today's."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    return at.strftime("%H:%M:%S UTC" if at.date() == today else "%Y-%m-%d %H:%M:%S UTC")
