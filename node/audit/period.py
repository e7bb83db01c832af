"""Times as people write them, for the period of a proof of absence."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TEXT = 40


def begins(text: str) -> int:
    """When a period begins: with a day (UTC), or at an instant. Milliseconds since the Unix epoch.

    Raises ValueError with what is wrong."""
    return _milliseconds(text, days=0)


def ends(text: str) -> int:
    """When a period ends: with the last moment of a day (UTC), or just before an instant. The first
    millisecond that is no longer in it, since the Unix epoch. Raises ValueError."""
    return _milliseconds(text, days=1)


def _milliseconds(text: str, days: int) -> int:
    try:
        if _DATE.fullmatch(text):
            midnight = datetime.combine(date.fromisoformat(text), time(), UTC)
            return _since(midnight + timedelta(days=days))
        if len(text) <= _MAX_TEXT and _TIME.fullmatch(text):
            return _since(datetime.fromisoformat(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!a} is no time: {error}") from error
    raise ValueError(
        f"{text[:_MAX_TEXT]!a} is neither a date, as in 2026-03-31, nor a time with its zone, as "
        "in 2026-03-31T18:00:00Z"
    )


def _since(instant: datetime) -> int:
    milliseconds = (instant - _EPOCH) // timedelta(milliseconds=1)
    if milliseconds < 0:
        raise ValueError("it is before 1970")
    return milliseconds
