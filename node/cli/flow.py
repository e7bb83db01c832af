"""A picture of linked payments: one HTML file with drawings in it, nothing to load, nothing to run.

Money flows from left to right: a box is a participant that held it, an arrow a payment. What goes
back is drawn with a dashed line. Each payment links to its dossier, if that lies beside the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from node.cli.output import instant

if TYPE_CHECKING:
    from node.api.settlement import TraceView

BOX_WIDTH, BOX_HEIGHT, STEP, ROW, MARGIN = 150, 44, 370, 96, 16
"""Pixels; `STEP` from one column of boxes to the next, `ROW` from one line of them to the next."""
MAX_TEXT = 20
"""Characters of a name in a box; the table below has it whole."""
COLOURS = {"settled": "#1b7a3d", "posted": "#1b7a3d", "rejected": "#b3261e", "cancelled": "#b3261e"}
OTHER_COLOUR = "#8a6100"
"""Of what is not decided yet."""

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:76em;margin:2em auto;padding:0 1em;color:#1c1b1f}
svg{max-width:100%;height:auto;display:block;margin:1em 0;border:1px solid #ddd;background:#fcfcfd}
svg text{font:13px system-ui,sans-serif;fill:#1c1b1f}svg .small{font-size:11px;fill:#555}
table{border-collapse:collapse;font-size:13px;width:100%}
th,td{text-align:left;padding:.35em .6em;border-bottom:1px solid #e4e4e8;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
code{font-size:12px}.asked{font-weight:600}.scroll{overflow-x:auto}
@media print{body{margin:0;max-width:none}svg{border:0}}
"""


@dataclass
class _Spot:
    """A payment in the drawing: its arrow ends at the box of who received the money."""

    view: TraceView
    column: int
    y: int
    children: list[_Spot] = field(default_factory=list)


@dataclass(frozen=True)
class Flow:
    """One tree of linked payments."""

    title: str
    source: TraceView
    complete: bool
    """False: there are more payments than the tree tells of."""


def flow_html(
    title: str, remarks: Sequence[str], flows: Sequence[Flow], asked: str, dossiers: dict[str, str]
) -> str:
    """The page. `dossiers`: relative addresses by UETR of those that were written; `asked`: the
    UETR that the reader asked for, if one."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>"
    ]
    parts += [f"<p>{escape(remark)}</p>" for remark in remarks]
    for flow in flows:
        parts.append(f"<section><h2>{escape(flow.title)}</h2>")
        parts += _drawing(flow, asked, dossiers)
        parts += _table(flow.source, asked, dossiers)
        if not flow.complete:
            parts.append(
                "<p>There is more: the node that was asked does not hold, or does not tell, all of "
                "it.</p>"
            )
        parts.append("</section>")
    parts.append("</html>\n")
    return "".join(parts)


def payments_of(view: TraceView) -> Iterator[TraceView]:
    """Every payment of a tree, the source first."""
    pending = [view]
    while pending:
        each = pending.pop()
        yield each
        pending += reversed(each.following)


# --- the drawing ----------------------------------------------------------------------------------


def _lay_out(view: TraceView, column: int, top: int) -> tuple[_Spot, int]:
    """The payment with all that follow, below `top`; and where the next one begins."""
    spot = _Spot(view, column, top)
    below = top
    for child in view.following:
        placed, below = _lay_out(child, column + 1, below)
        spot.children.append(placed)
    if spot.children:
        spot.y = (spot.children[0].y + spot.children[-1].y) // 2
    return spot, max(below, top + ROW)


def _drawing(flow: Flow, asked: str, dossiers: dict[str, str]) -> list[str]:
    root, height = _lay_out(flow.source, 1, MARGIN)
    columns = _deepest(root)
    width = 2 * MARGIN + STEP * columns + BOX_WIDTH
    first = flow.source.debtor_name or ("issued" if flow.source.kind == "issue" else "?")
    return [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(flow.title)}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>',
        _box(MARGIN, root.y, first, "source"),
        *_arrows(root, MARGIN, root.y, asked, dossiers),
        "</svg>",
    ]


def _deepest(spot: _Spot) -> int:
    return max([spot.column, *map(_deepest, spot.children)])


def _arrows(
    spot: _Spot, from_x: int, from_y: int, asked: str, dossiers: dict[str, str]
) -> Iterator[str]:
    view = spot.view
    x, start = MARGIN + STEP * spot.column, from_x + BOX_WIDTH
    middle, end = from_y + BOX_HEIGHT // 2, spot.y + BOX_HEIGHT // 2
    colour = COLOURS.get(view.status or "", OTHER_COLOUR)
    dash = ' stroke-dasharray="6 4"' if view.relation == "returns" else ""
    bend = start + 60
    yield (
        f'<path d="M{start} {middle} C{bend} {middle} {start + 20} {end} {bend + 20} {end} '
        f'L{x} {end}" fill="none" stroke="{colour}" stroke-width="1.8" '
        f'marker-end="url(#tip)"{dash}/>'
    )
    label, below = _labels(view, asked)
    text = (
        f'<text x="{x - 6}" y="{end - 8}" text-anchor="end">{escape(label)}</text>'
        f'<text x="{x - 6}" y="{end + 16}" text-anchor="end" class="small">{escape(below)}</text>'
    )
    address = dossiers.get(view.uetr)
    yield text if address is None else f'<a href="{escape(address)}">{text}</a>'
    nobody = "redeemed" if view.kind == "redeem" else "?"
    yield _box(x, spot.y, view.creditor_name or nobody, _role(spot))
    for child in spot.children:
        yield from _arrows(child, x, spot.y, asked, dossiers)


def _role(spot: _Spot) -> str:
    """What who receives this payment is in the flow."""
    if spot.view.relation == "returns":
        return "gets back"
    passes_on = any(child.view.relation != "returns" for child in spot.children)
    return "intermediary" if passes_on else "destination"


def _labels(view: TraceView, asked: str) -> tuple[str, str]:
    if not view.known:
        return "not held here", view.uetr
    mark = "★ " if view.uetr == asked else ""
    reason = f" {view.reason}" if view.reason else ""
    return (
        f"{mark}{view.amount or '?'} {view.currency or ''}",
        f"{view.status}{reason}, block {view.height}, {view.uetr[:8]}…",
    )


def _box(x: int, y: int, name: str, role: str) -> str:
    shown = name if len(name) <= MAX_TEXT else name[: MAX_TEXT - 1] + "…"
    return (
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#fff" '
        f'stroke="#45464f"/><text x="{x + BOX_WIDTH // 2}" y="{y + 20}" text-anchor="middle">'
        f'{escape(shown)}</text><text x="{x + BOX_WIDTH // 2}" y="{y + 36}" text-anchor="middle" '
        f'class="small">{role}</text>'
    )


# --- the table ------------------------------------------------------------------------------------


def _table(source: TraceView, asked: str, dossiers: dict[str, str]) -> Iterator[str]:
    yield (
        '<div class="scroll"><table><thead><tr><th>UETR<th>from<th>to<th>amount<th>status<th>block'
        "<th>settled<th>behind it<th>remarks<th>dossier</thead><tbody>"
    )
    for view in payments_of(source):
        address = dossiers.get(view.uetr)
        link = "none" if address is None else f'<a href="{escape(address)}">dossier</a>'
        amount = f"{view.amount} {view.currency}" if view.amount else ""
        behind = [f"{each.role.replace('_', ' ')}: {each.name}" for each in view.parties]
        height = "" if view.height is None else view.height
        yield (
            f"<tr{' class=asked' if view.uetr == asked else ''}>"
            f"<td><code>{escape(view.uetr)}</code><td>{escape(view.debtor_name or '')}"
            f'<td>{escape(view.creditor_name or "")}<td class="n">{escape(amount)}'
            f"<td>{escape(status_text(view))}<td class=n>{height}"
            f"<td>{'' if view.settled_at is None else instant(view.settled_at)}"
            f"<td>{escape('; '.join(behind))}<td>{escape('; '.join(remarks_of(view)))}<td>{link}"
        )
    yield "</tbody></table></div>"


def status_text(view: TraceView) -> str:
    """What became of it, with the reason and how it belongs to the payment before it."""
    if not view.known:
        return "not held here"
    relation = "" if view.relation == "source" else f" ({view.relation.replace('-', ' ')})"
    return f"{view.status}{f' {view.reason}' if view.reason else ''}{relation}"


def remarks_of(view: TraceView) -> list[str]:
    """Recall, returns and dispute of a payment, in words."""
    remarks = []
    if view.recall is not None:
        remarks.append(f"recall {view.recall}")
    if view.returned is not None:
        remarks.append(f"{view.returned} {view.currency or ''} given back".replace("  ", " "))
    if view.dispute is not None:
        decided = view.dispute.verdict or "not decided"
        remarks.append(f"disputed by {view.dispute.opened_by_name}: {decided}")
    return remarks
