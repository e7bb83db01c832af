"""All forgeries that exactly one check of the verifier catches."""

from __future__ import annotations

from tests.support import forgeries_around, forgeries_chain, forgeries_order, forgeries_together
from tests.support.forgeries_chain import Forgery

SOLE: dict[str, Forgery] = {
    **forgeries_chain.CHAIN,
    **forgeries_chain.FINALITY,
    **forgeries_chain.HISTORY,
    **forgeries_order.ORIGIN,
    **forgeries_order.PAYMENT,
    **forgeries_order.PLACES,
    **forgeries_order.LINK,
    **forgeries_order.CHANGES,
    **forgeries_order.RECORD,
    **forgeries_together.TOGETHER,
    **forgeries_around.BOOKS,
    **forgeries_around.SAID,
    **forgeries_around.KNOWN,
}
"""Name → (the only check that fails, the forgery)."""
