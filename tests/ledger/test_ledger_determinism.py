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
    "c6a9005fd39a0aa5b8a98a7fce43547cdec5782ef6a32dc1ba327a14db7df2a4",
    "05da7e0e7012634072f8443f461ed4958a62309b8fd5bb30ac58f3454b82552e",
    "c1c72fd1eb9b4b8683b0440beca10f44fb45f6cca9e3f6298268660aed8bebb3",
    "a24d0d5a54c117342c9025c93e53b20eabe49ca7d02b21b695257c4b1fb8e33b",
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
    "ffb5c993300e2af35dc964db06ef48b0122917bef21901a078fb541e2ca785b3",
    "9f66bb6ef8f95f7530e51a9b002cb1e59ab71e23051861fc0e7b8f17b83737d2",
    "de8b8c5a1b4419de650b050888944847dfe1478d52b3faaca3c91bfef01f1fce",
    "15cbd7e9cc415badbee381ab4df828454df00ecb127eb4726a17a315c5417e84",
    "9bd555cc9d81d45bafd46081d71fdc0309d139d19d831618bf443cad919389ca",
    "21313abd98752f89d4b514b4a2bd09f7627488baac6aaa19ddcbb09abb85cb6d",
    "cc6424b86bc039567c2a69acb568844815d7a0b04ee45b0dc66717f7a7c4ffb5",
    "7306ef251438b5d2f26689e9ab2b696b73169bb28417529c405223d323b9b57e",
    "176a8625f952583d7eddc2db3a9cbf46e360edec33cd4474160ae6c3f0bda375",
    "68da7f637ac1442103fe956eb08cb0678da8405258ed14261c52c91680a75464",
    "ee0b3a68ecf50857c7a55cfd28038493a9ed2bd59ade52a87620fa6dc8ea5353",
    "7c041b722294e2f735c390d1205758bec40e24070a576f0c1b1d5b159011d6af",
    "5ef38629264986d881458e048ae534567e1d3f7e322dc9caede9569adcf34793",
    "6b0c401e7b0071fd447b82592e29a455bb69b89561ebe7b704503cdd4298475f",
    "4978c78abb8e11ecc8afebf62b5e9da2e5347c09297b26fa5b993ffc2e602a71",
    "75060d8313b6c7c27f8107f0c73b3044b22945ae80da2e1a886074dcd628e1a1",
    "13f00ed1d81882646b2996dc9453be8dcc7ad6421b7fe82cfeb5a95d973def7b",
    "ea9b538c9028c2eee54212de1e039a2d700e6679d8d1f1dfdfdf8c117ece6aed",
    "d45cdf90c14def07823199d4849bc287ba8f598f9537cc9e5aa621c8a04ace58",
    "4540ac945bcff1ecf3a700a517e7280670ee288fdda64cc674310d48c3432a9c",
    "6803b27d3cdcbf11e1696a12ef53c03322d833ec1d9389cf615a48c489b4e17d",
    "a8890f707208603c70f99a961c57348e96807454f4246a8dabde2076f3e95d8a",
    "450a14084ce7862e22ee143192c3c60ffd234e9722cce894ca68d70489d2a706",
    "4a197ba89ac870dd6e5b35cc2cae40d4586eb075db9a67a23af37aac891fa68f",
    "d02bcefaaa86a19ba23e8a3bd7801249f4f46325ec2ad2dc9eaf52162c38dc7d",
    "0da6b3438175fc133d7e37c5ddc94ab8f0d4d2a848703689af20750ad37b5fc6",
    "689f53de080b728585c1597c68b24f80dd7f79c60fe93e66350677ff00302404",
    "7b838727dbce809088ade4ae233b947ca7f355cc3900d556758a7960a5956030",
    "079bc6c93fd67a5d4419435de2fe0a6e5359ec4b5658dd57d23d2997fea8bac7",
    "2d8d53528e3f50c183eb853a87d105cc2ed0f65c07b22eea176ac0aca92d0c2d",
    "eccdf7cdf9500ed1471266a768394cf6d274ba4eddce3bf9ddb9753bbf07eca9",
    "c90226adb6ebb231f37842366a1ee9ffe4af132a946163282def61cecc68b898",
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
