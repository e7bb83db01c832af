"""Who gets through the TLS handshake: the expected validator and nobody else."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from node.network.links import Refusal
from node.network.transport import (
    CERTIFICATE_VALIDITY,
    RENEW_BEFORE,
    Identity,
    PinnedContext,
    Pins,
    authority_certificate,
    certificate_key,
    classify,
    issue_certificate,
    load_certificate,
    peer_key,
)
from tests.support.peers import CHAIN_ID, OTHER_CHAIN_ID, identity, node_key, pins, seed

NOW = datetime.now(UTC)


def dialing(own: int, peer: int, count: int = 4) -> PinnedContext:
    return identity(own).client_context(pins(own, count), node_key(peer))


def accepting(own: int, count: int = 4) -> PinnedContext:
    return identity(own).server_context(pins(own, count))


class Ends:
    """Both ends of a TLS connection in memory."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(to_client, to_server, server_hostname="any")
        self.server = server.wrap_bio(to_server, to_client, server_side=True)

    def handshake(self) -> None:
        """Both ends by turns. Raises what the first end to refuse raises."""
        waiting = [self.client, self.server]
        for _ in range(10):
            for end in tuple(waiting):
                try:
                    end.do_handshake()
                    waiting.remove(end)
                except ssl.SSLWantReadError:
                    pass
            if not waiting:
                return
        raise AssertionError("handshake does not end")


def refused(client: ssl.SSLContext, server: ssl.SSLContext) -> Refusal:
    ends = Ends(client, server)
    with pytest.raises(ssl.SSLError) as caught:
        ends.handshake()
    return classify(caught.value)


def test_two_validators_connect_and_know_each_other() -> None:
    client, server = dialing(0, 2), accepting(2)
    ends = Ends(client, server)
    ends.handshake()
    assert ends.client.version() == ends.server.version() == "TLSv1.3"
    assert peer_key(ends.client, client) == node_key(2)
    assert peer_key(ends.server, server) == node_key(0)


def test_another_chain_fails_at_both_ends() -> None:
    stranger = identity(0, chain_id=OTHER_CHAIN_ID)
    assert refused(stranger.client_context(pins(0), node_key(2)), accepting(2)) is (
        Refusal.WRONG_CHAIN
    )
    stranger = identity(2, chain_id=OTHER_CHAIN_ID)
    assert refused(dialing(0, 2), stranger.server_context(pins(2))) is Refusal.WRONG_CHAIN


def test_a_key_outside_the_validator_set_fails_at_both_ends() -> None:
    assert refused(dialing(5, 2, count=6), accepting(2)) is Refusal.UNKNOWN_KEY
    assert refused(dialing(0, 2), accepting(5, count=6)) is Refusal.UNKNOWN_KEY


def test_a_validator_in_anothers_place_is_refused() -> None:
    assert refused(dialing(0, 2), accepting(3)) is Refusal.SWAPPED_KEY


def test_any_validator_may_dial_any_other() -> None:
    Ends(dialing(3, 2), accepting(2)).handshake()
    Ends(dialing(2, 3), accepting(3)).handshake()


def test_a_copy_of_this_node_is_named() -> None:
    assert refused(dialing(0, 2), accepting(0)) is Refusal.OWN_KEY
    everyone = Pins(node_key(5), {node_key(i): i for i in range(6)})
    copy = identity(2).client_context(everyone, node_key(2))
    assert refused(copy, accepting(2)) is Refusal.OWN_KEY


def test_a_node_outside_the_validator_set_turns_everybody_away() -> None:
    assert refused(dialing(0, 5, count=6), accepting(5)) is Refusal.OBSERVER


def test_a_new_validator_set_holds_at_once_also_for_a_handshake_under_way() -> None:
    own = pins(2)
    ends = Ends(dialing(0, 2), identity(2).server_context(own))
    with suppress(ssl.SSLWantReadError):
        ends.client.do_handshake()
    own.validators = {node_key(2): 0, node_key(3): 1}
    with pytest.raises(ssl.SSLError) as caught:
        ends.handshake()
    assert classify(caught.value) is Refusal.UNKNOWN_KEY
    Ends(dialing(3, 2), identity(2).server_context(own)).handshake()
    context = identity(2).client_context(own, node_key(3))
    Ends(context, accepting(3)).handshake()
    own.validators = {node_key(2): 0}
    assert refused(context, accepting(3)) is Refusal.UNKNOWN_KEY


@pytest.mark.parametrize("issued", [-2 * CERTIFICATE_VALIDITY, timedelta(days=30)])
def test_the_dates_of_a_certificate_keep_no_validator_out(issued: timedelta) -> None:
    """A clock or process that stood still must not take a validator off the chain."""

    def stale(index: int) -> Identity:
        return Identity.create(CHAIN_ID, node_seed=seed(index), now=NOW + issued)

    Ends(stale(0).client_context(pins(0), node_key(2)), accepting(2)).handshake()
    Ends(dialing(0, 2), stale(2).server_context(pins(2))).handshake()


def test_a_client_without_a_certificate_is_refused() -> None:
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.verify_mode = ssl.CERT_NONE
    assert refused(anonymous, accepting(2)) is Refusal.NO_CERTIFICATE


def test_tls_1_2_is_refused() -> None:
    old = dialing(0, 2)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refused(old, accepting(2)) is Refusal.NOT_TLS


def own_context(leaf: x509.Certificate, key: bytes) -> ssl.SSLContext:
    """What somebody builds who holds `key` and any leaf issued under the public authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    load_certificate(context, leaf.public_bytes(Encoding.PEM) + key, None)
    return context


def test_naming_a_validators_key_without_holding_it_is_of_no_use() -> None:
    """The authority is public, so anyone can issue a leaf for a validator's key. TLS needs the
    private key beside it: OpenSSL does not even load the pair."""
    stolen = issue_certificate(CHAIN_ID, node_key(0), NOW, NOW + CERTIFICATE_VALIDITY)
    mine = identity(3).key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        own_context(stolen, mine)


def test_a_leaf_does_not_serve_as_an_authority() -> None:
    """A leaf signed by a validator's own key, even one the verifier knows, chains to nothing."""
    holder = identity(0)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(holder.certificate.subject)
        .issuer_name(holder.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(holder.key, None)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    client = own_context(leaf, pem)
    assert refused(client, accepting(2)) in (
        Refusal.WRONG_CHAIN,
        Refusal.BAD_CERTIFICATE,
    )


def test_the_authority_is_the_same_for_all_who_know_the_chain() -> None:
    first = authority_certificate(CHAIN_ID)
    assert first.public_bytes(Encoding.DER) == (
        authority_certificate(CHAIN_ID).public_bytes(Encoding.DER)
    )
    assert first.public_key() != authority_certificate(OTHER_CHAIN_ID).public_key()
    constraints = first.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)


def test_a_leaf_serves_both_ends_and_signs_nothing_else() -> None:
    leaf = identity(1).certificate
    extensions = leaf.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {each.dotted_string for each in usage} == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}
    assert certificate_key(leaf.public_bytes(Encoding.DER)) == node_key(1)


def test_a_certificate_is_renewed_before_it_expires() -> None:
    first = identity(1)
    assert not first.renewal_due(NOW)
    late = first.expires - RENEW_BEFORE + timedelta(days=1)
    assert first.renewal_due(late)
    second = first.renewed(late)
    assert second.expires - late == CERTIFICATE_VALIDITY
    assert not second.renewal_due(late)


def test_the_private_key_is_on_no_disk_afterwards(tmp_path: Path) -> None:
    one = identity(1)
    pem = one.certificate.public_bytes(Encoding.PEM) + one.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ssl.SSLError):
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem[:200], str(tmp_path))
    assert list(tmp_path.iterdir()) == []
