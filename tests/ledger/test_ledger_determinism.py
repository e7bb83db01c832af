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
    "a9c7ec3f291ab85a70cc7d4ff9ac4706b9496bf21f0af0ef71986a11c6caf287",
    "df7a5f5ed863774f2046d57c4a6c7aa859936bb99900f793331545becd440ac4",
    "b0d0fd1b108bf2c3f201270fd91f5230e42ca5faf3d60c569b24bb8828ab037a",
    "e0ad201b3691999ea577663ebabdf5d2197be835cbb34dc347aaf6ed458c9a0d",
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
    "5a53e125e3e8c745be393b787ec88437e4c35080d4f5e9ec0019c44803d810f2",
    "ae1abc6ef2660a47024a53d974fa4b4a10de4ed3110597a3d992f876a71c8a91",
    "e1d6508b0622f20140395d5f4b10e6f23ba3e288327ff98900a388eb44438a31",
    "de9f2c8a38ccfea680a824c8b1bf119332bd413b15b037c6e7d722cb0c6629b7",
    "f50fe66ee307192bb54521e10b4ff94a42e5407a0ce5bff6a4898ce702eb10ca",
    "2335c15f56ace4e21f57a2fe002d7ff6fe69d961aaac8714a80e5765672dd3b6",
    "8c9ed8d63f055e3ff026309580c83a8e741bb5058eac433be7618e2de2ae027c",
    "756b994920fba195d5f0c4adc5e6b3f297bf3e4e911da82327a1f76f94be35bb",
    "2e4d846bcb92162235037b6f3cb03550ce3131049221ef1923918230b8b9c18b",
    "0e541490205c7c460a075141fc6af5ba0908cb53cdb283fae8b31b056146e8d9",
    "0101897b54b287f63ac8c234537941ed4abd00589a1d789868a7f32f9e99cdda",
    "d2723ee0efd76eba873cc8ae285e42065dbcea3525b399c66c2bb1222721dfad",
    "b36b2da4d447acf022ef7ab96affd43ef6e7a7db0790465c74ad995057e087da",
    "e63ce2bb25fa8b93b26ae022f3d5d286ed8c90b93b995b1296dbb473e3a669bf",
    "b9861b818329ab7bad316a49c0207b3952b78c80034784cd17d0893cc89dfa4f",
    "fe5e8ffc9356f61db4230aa196b343ae42878a65539190c7fff53dc06ed07271",
    "d3721c7fbe010a4e654a890746ce495c77429cb5d523a04787c6970f8ca1e06c",
    "44dab4e4b3f027576cf0cb5894bf632b65517891e6b46ed3afec165a850723b7",
    "8f6a6d35cf58de6bddcfb2dc8fe2262f8150e7c25175f8a846f57dc22ba53491",
    "1ae1732a2080a840d3bda191be294e5a272277905566c139fb557fb918aab9d3",
    "3650aeee8ce5d94640e11aa07a3b08c07ae21e4fe4a13caa0db2f3d78f04c99a",
    "189837d80414218138542152ac7688d2b33a54bdf2a4edbc34b2bdf743b7fd63",
    "06fc9acc60152e79e910058029217489c645e72383b155f93fc97fc0d0a9c9b8",
    "8bc631faf636186ba526e646ef566702a037276a2061401ccf1ec06c55d07499",
    "a931b355b8cc4fcde7b20239918540b748a984c6dab88403ce91355030cad5fd",
    "72d0847e2a2bc26d259b57e6961908491e4ab4926e3dbf8f12ae200822d99bce",
    "c2574f90c85b2b5a1ab3fd6160826c70053cdf5c55a51f3a47ff627c8edacc11",
    "4309a1817c8db951d46192fb0ad403975947eeeab58ae614f6b84715d3022f28",
    "fe9d34de5aff2c6ba17562b383f514c763fe4cf6dfc1b7c7fecb84563e150724",
    "cde89c9f3c42e0e331bf71d1710456e1da6a5039281d5601e9f8bd9dc2a8a572",
    "64cf364f58f4ed4f635a25e3994da86d4b194da609f36b71488c50313c2bf050",
    "42fb5f76771a46a189f9edda78ba2a40a75e5d9beb87789c9e0ad8d0ca21de39",
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
