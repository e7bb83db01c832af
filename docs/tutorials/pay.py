"""Pays from BANKA to BANKB on a running devnet, from Python; run it where .devnet is."""

import asyncio
import json
import time
import uuid
from pathlib import Path

from node.api.client import ApiClient
from node.chain.build import build_pay, gross_payment
from node.storage.keystore import open_keystore

DEVNET = json.loads(Path(".devnet/devnet.json").read_text())
BANKS = {bank["name"]: bank for bank in DEVNET["participants"]}


async def pay(debtor: str, creditor: str, cents: int) -> None:
    key = open_keystore(Path(BANKS[debtor]["keystore"]), "devnet", role="participant")
    uetr = uuid.uuid4()
    payment = gross_payment(
        uetr.bytes,
        BANKS[debtor]["lei"],
        BANKS[creditor]["lei"],
        "EUR",
        cents,
    )
    raw = build_pay(
        bytes.fromhex(DEVNET["chain_id"]),
        BANKS[debtor]["lei"],
        uetr.hex,  # the id: unique for this sender
        int(time.time() * 1000) + 3_600_000,  # valid for an hour
        payments=[payment],
        signers=[key.signer],
    )
    async with ApiClient([node["api"] for node in DEVNET["nodes"]]) as client:
        receipt = await client.submit(raw)
        print("taken in by", receipt.node[:16], "at height", receipt.height)
        view = await client.payment(str(uetr), wait=30)
    if view is None:
        print("nothing is final about", uetr, "yet; ask again, or send the same bytes again")
    else:
        print(view.status, "in block", view.height)


asyncio.run(pay("BANKA", "BANKB", 125_000))
