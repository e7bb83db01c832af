"""Sources that keep a follower busy without doing anything that is wrong by itself."""

from __future__ import annotations

from pathlib import Path

from tests.engine.test_auditing import following, store
from tests.support.audit_source import AuditSource
from tests.support.epoch_chain import sample_of_epochs


async def test_a_source_that_drips_is_left_for_one_that_does_not(tmp_path: Path) -> None:
    """It would keep the copy behind for ever, with no alarm: each answer is sound and in time."""
    slow, fast = AuditSource(store(sample_of_epochs())), AuditSource(store(sample_of_epochs()))
    async with following(tmp_path, slow, fast) as f:

        def drip(path: str, body: bytes) -> bytes:
            f.now += 20 if "/v1/sync" in path else 0
            return body

        slow.tamper = drip
        await f.auditor.grown_to(12)
        given = [path for path in slow.asked if "/v1/sync?first=" in path]
        heights = [int(path.partition("first=")[2].partition("&")[0]) for path in given]
        assert len([height for height in heights if height <= 12]) <= 1
        assert not f.alarms.kept
