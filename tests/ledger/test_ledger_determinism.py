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
    "f72448e41e5ff6111055bb1718dc7e35e6d03eb611d832906e95a1e1a481b9a0",
    "6571c2646684768ab2f792434344649288384c69507655ffd009dce94663938e",
    "9691f69bbfacdad8fb01187b75b961362a0e9e3c2fd6a3aa06de9d1d1db8635d",
    "a738cddbd565504a17155860a7c81031450591756fe2d347488edf5d533b975b",
    "7e236587c066f5c6dd7c5bf7fcca360ae36b10ae68997d752ba5d83ddb241d68",
    "b8681f32028e98e19a4d77114b3ff7aa62e14899724b0cbad757bbd7b8da2897",
    "aff24e31ff37b71c5399b7e47ee0630ff67f0d89558d072a121edeb9bb19d455",
    "add47969c1f071b5759bf25923d6c14022a2e770376f62a48db1e1030e54c2c8",
    "bb9e9fe17b73d5c9c7438800048f76d7aa436be8f1277e58ceff73145822ab76",
    "3e9885e304d015418268811145e00aaadd2a001349a16da6d98b76cb1b1bfdbe",
    "52a3d39d223a5ea63a9ded125ce1301a9298c25fa44613f31a310d3e93768364",
    "43838325ba93b1be6c31c08cae69e5b8bf64dd030bdfde957559e823d0a47363",
    "87c45b38c26b6a280acf38a75e2eec1c0a4224969aa9104d4ed2e37671be87a5",
    "6ad125c51745f18bf8e955690aab4adb00d88bc1e0fd8aeb8c5a1bf86fb0052b",
    "fdb2531618d441eb8972915054246d595426d955a23a83a95d23556a04fe22a1",
    "88d1da8afc04a52aebdd815dafd6099c61baad9b6b9f17d67a2cee5477260ba9",
    "68fd1ee41bdeabd43d50e46808f72b118a4b19837b60e2aa4ef9df868b3a2379",
    "11515e0618f3fb4e126e36722ac13af788a39a87ffc1a38b2f844640e7bc6db1",
    "0a1a274083487fbe90e6e48c5b5ffb1c14833287c1440f5a7834b3f327a01090",
    "ca092b2be71135d11c71950d0a3016cab121d23cf6d336a01a87148ee8ad1aa0",
    "4f72b0ede6b40bdb43a85390b4757b18d8cf47423b2783402660db3c6b80800c",
    "6923b58964cea345b3194eb29ff3cd9396772d9f00b597368df747dcec9df6d5",
    "f02681249bf98db28a423a94e9be7148f3c33bf46d66bfe27d076d40c660a35b",
    "9d7ae0e7697bba5695a85d09b1516189dedc2bc577d4b8ec7421863228fbf5c2",
    "73cdf70750a4246a0b4772dd8421a0ac755e194ad418382f3514ead8bd6a7da9",
    "909e1812ff49322f5acca6d298413bb92ac1e44a5b14623622f073ed52e7ce12",
    "038b2a01ef1537485c48e0538605e379726fbe540dff1a15308bd71f1dbf8285",
    "679dc6110d13004364873d533874cfd90f72d1cbe04dabada5307a3c67f2fbfa",
    "2773d711b2e67ecbd09e0545511afbe1d671890b08d5127cdc70311d45e300ec",
    "c79f069052861a58491d2a8a17efa6ae2d7531cbf9934bb7a656d147ffa39d92",
    "bbf1ae360cb64c598c9dabc2cbc3232edbb73d5268ae7a6bf74f72ea6a3efbde",
    "d31ca0beac19fb57bdf7a097460ab7f6b22a9a3d60e833b18f7d44f6f595717e",
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
