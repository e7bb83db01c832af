"""The same instructions give the same block digests in every process, now and later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.ledger_script import govern, mix, play, settle

ROOT = Path(__file__).parents[2]

GOLDEN = [
    "278bd693e5104d8c86981ed7482797bc94ee244354239d01776d84cbfaf1884e",
    "25fe6a224dbe89f35d724ae5aaf67a157183f5957ae6565fda6117947b63a266",
    "ae81fc5c8b5c742c9d38eab94851da7f9deaf974252159cd36bcefe134086667",
    "096824371d8df72c46e2ea575bd07a5069d753308160f56e33d93b9e26b2d5d8",
    "be476e621d5f100b68b30d2e85d449389789828dee39c5e005536d2a6efb630d",
    "9f5926db21d2471b58e89118343df283ff67fd701ab6901d755aa9cc920b2280",
]
GOVERNED = [
    "560d455945c8591df088f34e2c96a55c30d2ad6bb3ee22e2460a8cc145333efa",
    "98b24a3057a0de81ceff1e1b9eb7dec6a5614f6c33299a03c20509bb1d77a130",
    "9c84672c70f067348b1ff3c5f46e7622943aee7d6f17ff9c803eb5bca11e2646",
    "1a71a9264dea6c745a3605f1ac04b9fc724b25de4873da7b7843aff5b7dec4be",
    "da7f6b756f489b32149a0cd5e8e5335e2dfe2628833d83cf6b064b501b147464",
    "b6195e9503bbe561f78af130d69350711d1b6409a86b640ebbee4a0dcff5a39c",
    "8f7c3bb131a1607efc892faa17b432f78b37cc916e4b874d8cd5bd6a483cfaf5",
    "771995f94b7858b3866dccec6788b0697abcaab63ec65bbd65434855e4f57e40",
]
SETTLED = [
    "ded64dd41d3d3c595ef06bcd2a8d0a9f63bab288d2413f5070a7161d4623081c",
    "50d10888cd9d47357ba23a73e0892f6079fc3c06dc468d0728da9d42bbbaa222",
    "0ef9abca17ece5caf074aa3be859030c32571fda6e3bcb20847bb820a746611c",
    "f34b416131a34fe8fd01a13485856bb04d1949e4e506f85ac9a0cee848d9b541",
    "406ea9047aa272a3d9ccbce7f88b233a2acbc9215c8a9532e53121ebc2441e32",
    "51f5d4870e58ac15b2545a100e42868a8a1705db1abeae4f2285cac735ec8263",
    "62487edb2cdfbe3c3eb53e495e6ef7a87d505126a98cd1d120f69231c346c07e",
    "07349283b2587d04fa938f2983812a2116b5b15ca0b05222798aa8af85c6fff0",
    "b72777571b675b98307e7d7fcf27d3e25b3708e7fd436c9d8fb80aad7e779373",
    "6e775f6a48cba8814fdbee4be4b90b828a99f3cd09ed8c6a065a9235058c267e",
    "784591674593e47ed946ff98f1f8399a2946bdd32029f635275f86d4d2e17376",
    "e11a1fbdc0e96ae50129a2717e60cf65d1f09f5438ad1bec0f9f94d1ecedcd98",
    "f83c560f158bee635013a796be081fcbdd3a0c2756923ebec7a7c9f72159f1d3",
    "7dd99c3f4374d0fc660dfce0bdb6f738a3221122fb6cc835d15134fcd66700fe",
    "36f0237d9d43a8d5fa04246022d3337a23b443f7b71570b26552209f31101c1a",
    "56d08fde1e0b63dc4bdfa55d2146677419f61c06e4c32316e2ca0984c07cf7ed",
    "6195f1c4854615535f71978d08966384c49814c152f55ce1696a8ae08ed96bd2",
    "db771f5293956c0a92711750a2794e6a1c917d085a9c34f0712fa81802be96ac",
    "c9a34ca39c1508cac55f504786283fee0fb33b0c067eb22a60f1a7d6ed12e43d",
    "68e63f6a5087ac6d70b95d4ef88482fe8604c2b2066facb1db40c03032e0f24f",
    "f488083ab2ebe963b21f7c62640e44875f78d8aa6b372a02e00b7df93f6ecdc8",
    "99c50661ea5219fb12df982fbf05a1bf44db391a3d69821157b643a291adbecc",
    "bdefad912e6205fe3a590822534aaa2d3a7fa1387ff7da70c7db1b3678b58b5c",
    "f26e291d05f510df46bb669691bac246ad1263d12bd7c3451b7620e1c144f87f",
    "95e28f5ccde1cab70391d2d5f140dd1478af405b6f1dd1700094245bfa397050",
    "0c43822c5a300904fddd06e90c614ca965e59a1d59c1a8d4ebbfa3473d775a63",
    "6426abc0bee3fa9e59e49f6f8093c628a03494b04e2349c94a3d8187c8958885",
    "08645218a085b998dc8c2d03d37fbb57d36b2715abe4bdb03308b0af92ea2da9",
    "01a0c461a20b4c0b023faf41080fc5d8a32f9d7282a97aedcc1f9cbff4918490",
    "f1f5052b1324a480c3ea6821ccbf2a356370e08cbd6b6d28fd45a22185a195ae",
    "8a056e8d5e9ac2821be855d372b3a8cf0cb4427e2393e76381842af04f9c9cf7",
    "474fda25a299c7f5dcdece2802c316a110dd9cce9fcaa17229dfd1c3ea580164",
    "9f9b4a166c5217fd02ce4405226be00ccad90536fbec40a91c564516dd1e49cd",
    "ba3228ac1c15e957f97574977b00a4bc0deb485b8e6674c2936b0d373aba4e79",
]
"""Digests of the scripts' blocks. They change only with the rules or a format, both of which
have a version: a change here without one is a fork."""


def test_digests_do_not_depend_on_hash_randomisation() -> None:
    printed = []
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.ledger_script"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1]
    assert printed[0] == [play(), govern(), settle(), mix()]


def test_the_scripts_blocks_have_the_digests_they_always_had() -> None:
    assert play() == GOLDEN
    assert govern() == GOVERNED
    assert settle() == SETTLED
