"""What the commands that write evidence have in common: asking nodes, and saying how to check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.errors import CommandError, Exit, usage
from node.cli.stopped import Stopped

if TYPE_CHECKING:
    from node.api.client import ApiClient


def check_anywhere(path: Path, data: bytes) -> str:
    """A line that says how to check a file just written."""
    return (
        f"{path}: {len(data):,} bytes. Check it anywhere with: nostro verify {path} "
        "--genesis genesis.json"
    )


async def fetch(
    urls: list[str], ask: Callable[[ApiClient], Awaitable[bytes]], lacking: Collection[str] = ()
) -> bytes:
    """The answer of the first node that has one. `lacking`: problems by which a node says that it
    does not, so that the next is asked. Raises CommandError."""
    from node.api.client import ApiClient, ApiError, ApiProblem  # noqa: PLC0415
    from node.cli.settle import no_answer  # noqa: PLC0415

    unknown: ApiProblem | None = None
    pruned: CommandError | None = None
    other: CommandError | None = None
    for url in urls:
        async with ApiClient([url]) as client:
            try:
                return await ask(client)
            except ApiProblem as error:
                if error.code == "pruned":
                    pruned = no_answer(error)
                elif error.code in lacking:
                    unknown = error
                else:
                    raise no_answer(error) from error
            except ApiError as error:
                other = no_answer(error)
    if pruned is not None:
        raise pruned
    if unknown is not None:
        raise CommandError(f"there is no evidence yet: {unknown}", Exit.UNKNOWN) from unknown
    assert other is not None
    raise other


def lei_of(node: Stopped, given: str) -> str:
    """Of the participant with this short name, LEI or BIC. Raises CommandError."""
    from node.chain.encoding import decode, encode  # noqa: PLC0415
    from node.chain.records import ParticipantKey, ParticipantRecord  # noqa: PLC0415

    kind = encode(ParticipantKey("0" * 20))[: -len(encode("0" * 20))]
    for _, raw in node.store.rows(kind, None):
        record = decode(raw, ParticipantRecord)
        if given in (record.name, record.lei, record.bic):
            return record.lei
    raise usage(f"no participant has the name, LEI or BIC {given!a}")
