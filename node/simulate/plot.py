"""A picture of a scenario: one HTML file with drawings in it, nothing to load, nothing to run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from node.simulate.run import Result
from node.simulate.scenario import Scenario

WIDTH, HEIGHT, LEFT, BOTTOM = 860, 260, 110, 30
MAX_DRAWN = 24
"""Banks with a line of their own: those whose balance moves most."""
_HUES = 47
"""Degrees from one line's colour to the next: far apart for neighbours, no repeat below 360."""


def plot_html(scenario: Scenario, runs: dict[str, Result]) -> str:
    """Balances and queued value by round, for each run. Self-contained."""
    drawn = _banks(runs)
    left_out = len(scenario.banks) - len(drawn)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy "
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<title>nostro simulate</title>"
        "<style>body{font:14px system-ui,sans-serif;max-width:56em;margin:2em auto;padding:0 1em}"
        "svg{width:100%;height:auto}text{font-size:11px;fill:#555}"
        ".grid{stroke:#ddd}.key span{margin-right:1em;white-space:nowrap}</style>"
        f"<h1>{len(scenario.rounds)} rounds of payments in {escape(scenario.currency)}</h1>"
        "<p>Amounts in minor units. Round 0 is the opening.</p>"
    ]
    for title, run in runs.items():
        turnover = "none needed" if run.turnover is None else f"turnover {run.turnover:.2f}"
        parts.append(
            f"<h2>{escape(title)}</h2><p>{len(run.settled):,} settled, {len(run.queued):,} still "
            f"queued, {run.delay_rounds:,} rounds waited in all; liquidity {run.liquidity:,} "
            f"({turnover})</p><h3>Balances</h3>"
        )
        parts.append(
            _chart(
                [
                    ([each[name] for each in run.balances], _colour(n))
                    for n, name in enumerate(drawn)
                ]
            )
        )
        parts.append("<h3>Queued</h3>")
        parts.append(_chart([(run.waiting, "#b00")]))
    parts.append('<p class="key">')
    parts += [
        f'<span><b style="color:{_colour(n)}">━</b> {escape(name)}</span>'
        for n, name in enumerate(drawn)
    ]
    if left_out > 0:
        parts.append(f"<span>and {left_out:,} banks whose balances move less, not drawn</span>")
    parts.append("</p></html>\n")
    return "".join(parts)


def _banks(runs: dict[str, Result]) -> list[str]:
    moved: dict[str, int] = {}
    for run in runs.values():
        for name in run.closing:
            values = [each[name] for each in run.balances]
            moved[name] = max(moved.get(name, 0), max(values) - min(values))
    return sorted(sorted(moved), key=lambda name: -moved[name])[:MAX_DRAWN]


def _colour(number: int) -> str:
    return f"hsl({number * _HUES % 360} 65% 42%)"


def _chart(lines: Sequence[tuple[Sequence[int], str]]) -> str:
    values = [value for line, _ in lines for value in line] or [0]
    low, high = min(0, *values), max(1, *values)
    rounds = max((len(line) for line, _ in lines), default=1)

    def x(place: int) -> float:
        return LEFT + (WIDTH - LEFT - 10) * place / max(1, rounds - 1)

    def y(value: int) -> float:
        return 10 + (HEIGHT - BOTTOM - 10) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for quarter in range(5):
        value = low + (high - low) * quarter // 4
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:,}</text>'
        )
    for place in sorted({0, (rounds - 1) // 2, rounds - 1}):
        parts.append(
            f'<text x="{x(place):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{place}</text>'
        )
    for line, colour in lines:
        points = " ".join(f"{x(n):.1f},{y(value):.1f}" for n, value in enumerate(line))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        )
    parts.append("</svg>")
    return "".join(parts)
