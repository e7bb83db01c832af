"""One line about each node, as `devnet status` and the live status show it."""

from __future__ import annotations

from node.api.service import StatusView

NODE_HEADS = ("NODE", "STATE", "PID", "HEIGHT", "VIEW", "LEADER", "PEERS", "WAITING", "API")
RIGHT = "PID HEIGHT VIEW WAITING"
"""Columns of numbers."""


def node_row(
    name: str, state: str, pid: int | None, api: str, status: StatusView | None
) -> tuple[str, ...]:
    """`status` is None for a node that does not answer."""
    if status is None:
        seen = ("-",) * 5
    else:
        linked = sum(1 for peer in status.peers if peer.connected)
        seen = (
            str(status.height),
            str(status.view),
            status.leader,
            f"{linked}/{len(status.peers)}",
            str(status.mempool.instructions),
        )
        if status.alarm:
            state = "alarm"
    return (name, state, "-" if pid is None else str(pid), *seen, api)


def lines(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows under their heads, aligned."""
    table = [NODE_HEADS, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = [head in RIGHT.split() for head in NODE_HEADS]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in table
    ]
