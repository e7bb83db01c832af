"""Who is at the other end of a link: mutual TLS 1.3, both ends pinned to the validator set.

The authority over a link is the peer's `node_key` in the validator set and nothing else. X.509
only carries it. Python's ssl module can ask a client for a certificate only if it can chain it
to a known issuer, so every chain has a certificate authority whose private key is *public*: it
is derived from the chain id. Each node issues its own leaf, for its own node key, under it.

What each layer then shows:

- TLS (RFC 8446): the peer holds the private key of the leaf it presented (CertificateVerify is
  signed by the leaf key over this handshake). That anybody can issue leaves is no matter: a
  certificate naming somebody else's key is of no use without that key.
- The chain-derived issuer: a node of another chain fails in the handshake, before any HTTP byte.
- `PinnedContext`: the handshake itself fails unless the leaf's key is one that is expected here:
  the dialed validator's key at the dialing end, any other validator's at the listening end. The
  keys are looked up in `Pins` at that moment, so a new validator set holds at once.

The dates of a certificate are not judged. Whoever holds the key can issue a new leaf at will, so
expiry would keep no thief out; it would only let a stopped clock, or a process that slept for a
year, take validators off the chain that are who they say.

A node key thus signs TLS transcripts and receipts. The two cannot be confused: what TLS 1.3
signs starts with 64 spaces, what the chain signs with a MessagePack array header.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from node.chain.encoding import digest, framed
from node.network.links import Refusal

TRANSPORT_CA = framed("nostro.transport-ca/1")
"""Domain of the public seed of a chain's transport authority."""
CERTIFICATE_VALIDITY = timedelta(days=365)
"""From issue to expiry of a leaf. It is made anew at each start, see `RENEW_BEFORE`."""
RENEW_BEFORE = timedelta(days=180)
"""A node that runs for months issues itself a new leaf when so much of the old one is left: long
before `nostro doctor` warns, which so means that renewal does not work."""
CLOCK_ALLOWANCE = timedelta(hours=1)
"""A leaf is valid from this long before it was issued, for tools that look at its dates."""
CA_NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
CA_NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280, 4.1.2.5: no well-defined expiration. The authority proves nothing that could expire."""

_X509_V_FLAG_NO_CHECK_TIME = 0x200000
"""OpenSSL's flag (x509_vfy.h) that leaves dates unchecked; the ssl module does not name it."""
_X509_V_ERR_ISSUER = frozenset({2, 7, 18, 19, 20, 21})
"""OpenSSL's verify codes for: issuer unknown, or its signature does not check out."""


class PeerRefused(ssl.SSLCertVerificationError):
    """The handshake was sound but the key at the other end is not the one expected here."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(f"{refusal}{': ' if detail else ''}{detail}")
        self.refusal = refusal


class WrongNodeKey(ValueError):
    """The node key given is not the one that the validator set names for this node."""

    def __init__(self, index: int, given: bytes, named: bytes) -> None:
        super().__init__(
            f"the node key is {given.hex()}, but the validator set names {named.hex()} for "
            f"validator {index}: use the key file made for this node"
        )


def classify(error: BaseException) -> Refusal:
    """The reason behind an exception of a failed TLS handshake."""
    if isinstance(error, PeerRefused):
        return error.refusal
    if isinstance(error, ssl.SSLCertVerificationError):
        code = getattr(error, "verify_code", 0)
        if code in _X509_V_ERR_ISSUER:
            return Refusal.WRONG_CHAIN
        return Refusal.BAD_CERTIFICATE
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return Refusal.NO_CERTIFICATE
    if "_ALERT_" in reason:
        return Refusal.REJECTED
    return Refusal.NOT_TLS


# --- certificates -----------------------------------------------------------------------------


def _authority_key(chain_id: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(digest(TRANSPORT_CA, chain_id))


def _authority_name(chain_id: bytes) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"nostro transport {chain_id.hex()[:32]}")]
    )


def authority_certificate(chain_id: bytes) -> x509.Certificate:
    """The chain's transport authority: the same bytes for everyone who knows the chain id."""
    key = _authority_key(chain_id)
    name = _authority_name(chain_id)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(chain_id[:8], "big") | 1)
        .not_valid_before(CA_NOT_BEFORE)
        .not_valid_after(CA_NOT_AFTER)
        # Path length 0: a leaf can never be stretched into an authority of its own.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def issue_certificate(
    chain_id: bytes, public_key: bytes, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """A leaf for `public_key` (32 bytes, Ed25519) under the chain's authority.

    Usable at both ends of a link: a node is the client of some links and the server of others.
    """
    authority = _authority_key(chain_id)
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"node {public_key.hex()[:32]}")])
        )
        .issuer_name(_authority_name(chain_id))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"{public_key.hex()[:32]}.node.nostro")]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, None)
    )


def certificate_key(der: bytes) -> bytes:
    """The 32-byte Ed25519 key of a DER certificate. Raises PeerRefused for any other kind."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except ValueError as error:
        raise PeerRefused(Refusal.BAD_CERTIFICATE, str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise PeerRefused(Refusal.NOT_ED25519)
    return key.public_bytes_raw()


# --- TLS contexts -----------------------------------------------------------------------------


class _PinnedObject(ssl.SSLObject):
    """A TLS connection whose handshake completes only with a pinned key at the other end.

    The check stands here, and not in the code that uses the connection, because here no path
    exists on which a byte from an unpinned peer reaches an HTTP parser.
    """

    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        assert isinstance(context, PinnedContext)
        context.check_peer(self.getpeercert(binary_form=True))


@dataclass(slots=True)
class Pins:
    """The node keys of the validator set in force. Changed in place when an epoch begins: every
    handshake that completes afterwards, also one under way, is judged by the new set."""

    own_key: bytes
    validators: Mapping[bytes, int] = field(default_factory=dict)
    """Node key → validator index."""

    def check(self, key: bytes, dialed: bytes | None) -> None:
        """Judge the key at the other end; `dialed`: whose it should be, None when it dialed us.

        Raises PeerRefused."""
        if key == self.own_key:
            raise PeerRefused(Refusal.OWN_KEY, "a copy of this node, or its own address")
        if self.own_key not in self.validators:
            raise PeerRefused(Refusal.OBSERVER)
        index = self.validators.get(key)
        if index is None:
            raise PeerRefused(Refusal.UNKNOWN_KEY, key.hex())
        if dialed is not None and key != dialed:
            raise PeerRefused(Refusal.SWAPPED_KEY, f"it is validator {index}'s")


class PinnedContext(ssl.SSLContext):
    """A TLS 1.3 context for one end of peer links, made by `Identity`."""

    pins: Pins
    dialed: bytes | None
    """The node key that alone is accepted at the other end; None where peers dial us."""

    def check_peer(self, der: bytes | None) -> bytes:
        """The node key of a peer's certificate. Raises PeerRefused."""
        if der is None:
            raise PeerRefused(Refusal.NO_CERTIFICATE)
        key = certificate_key(der)
        self.pins.check(key, self.dialed)
        return key


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's certificate and key."""

    chain_id: bytes
    certificate: x509.Certificate
    key: Ed25519PrivateKey

    @classmethod
    def create(
        cls,
        chain_id: bytes,
        *,
        node_seed: bytes,
        now: datetime,
        validity: timedelta = CERTIFICATE_VALIDITY,
    ) -> Identity:
        """Issue this node a leaf that is valid from an hour before `now` for `validity`.

        `node_seed` is the 32-byte Ed25519 seed of the node key.
        """
        key = Ed25519PrivateKey.from_private_bytes(node_seed)
        public = key.public_key().public_bytes_raw()
        certificate = issue_certificate(chain_id, public, now - CLOCK_ALLOWANCE, now + validity)
        return cls(chain_id, certificate, key)

    @property
    def node_key(self) -> bytes:
        """The public key, 32 bytes."""
        return self.key.public_key().public_bytes_raw()

    def renewed(self, now: datetime) -> Identity:
        """The same identity with a leaf issued `now`."""
        return Identity.create(self.chain_id, node_seed=self.key.private_bytes_raw(), now=now)

    @property
    def expires(self) -> datetime:
        """The last moment of the certificate's validity (UTC)."""
        return self.certificate.not_valid_after_utc

    def renewal_due(self, now: datetime) -> bool:
        """Whether less than `RENEW_BEFORE` of the certificate is left."""
        return self.expires - now < RENEW_BEFORE

    def server_context(self, pins: Pins) -> PinnedContext:
        """For accepting links from the other validators."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, pins, None)
        # A resumed session would skip the certificate and so the pin.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        return context

    def client_context(self, pins: Pins, dialed: bytes) -> PinnedContext:
        """For dialing the validator with this node key and nobody else."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT, pins, dialed)

    def _context(self, protocol: int, pins: Pins, dialed: bytes | None) -> PinnedContext:
        context = PinnedContext(protocol)
        context.sslobject_class = _PinnedObject
        context.pins = pins
        context.dialed = dialed
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        # Names prove nothing here: the key is what is checked.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT | _X509_V_FLAG_NO_CHECK_TIME
        authority = authority_certificate(self.chain_id)
        context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
        pem = self.certificate.public_bytes(Encoding.PEM) + self.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        load_certificate(context, pem, _memory_directory())
        return context


def load_certificate(context: ssl.SSLContext, pem: bytes, directory: str | None) -> None:
    """Give a context its certificate and private key.

    ssl reads them from a file only, so for this moment they are one, of mode 0600 and in a
    directory of its own of mode 0700 under `directory`, gone right after."""
    with tempfile.TemporaryDirectory(prefix="nostro-", dir=directory) as private:
        path = Path(private) / "node.pem"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)


def _memory_directory() -> str | None:
    """A file system in memory where there is one, so that the key never reaches a disk."""
    shared = "/dev/shm"
    return shared if os.access(shared, os.W_OK | os.X_OK) else None


def peer_key(transport_object: object, context: PinnedContext) -> bytes:
    """The node key at the other end of a connection whose handshake `context` completed. Raises
    PeerRefused when it is no longer one that is expected."""
    assert isinstance(transport_object, ssl.SSLObject)
    return context.check_peer(transport_object.getpeercert(binary_form=True))
