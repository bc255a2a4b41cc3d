# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of a CA of the stack's own, and checks of those that others provide.

Keys are on the curve P-256. Where a certificate of the CA is renewed, its key and its name stay, so that what it has
signed is verified by the old certificate and by the new one. Keys stay in the process, and no error of this file holds
one.

A CA is rotated to the next one, which is there beforehand. Clients trust the previous one, the current one and the next
one, so a rotation ends no connection: those that have not read the new ones yet know the next one already.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets as randomness
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils.credentials.supplied import WrongInputError

TYPE = "kubernetes.io/tls"
CERTIFICATE, KEY, AUTHORITY = "tls.crt", "tls.key", "ca.crt"
NEXT_CERTIFICATE, NEXT_KEY, PREVIOUS_CERTIFICATE = "next.crt", "next.key", "previous.crt"
DAY = datetime.timedelta(days=1)
SKEW = datetime.timedelta(hours=1)  # by which a node's clock may be late
LONGEST_NAME = 64  # characters of a common name
LONGEST = 36525  # days

Bundle = dict[str, bytes]


class CertificateError(Exception):
    """What is wrong with a certificate or its key, in words that follow the name of its Secret."""


@dataclass(frozen=True)
class Certificate:
    """What a Secret's certificate has to be.

    Attributes:
        name: The common name.
        hosts: Names and addresses that it is for; a name may begin with C(*.).
        days: How long it is valid once it is issued.
        authority: The CA that issues it, as namespace/name of its Secret; empty for the CA itself, and where it is not
            issued here.
        ca: Whether it is that of a CA.
        client: Whether it is for a client and not for a server.
        issuer: The Issuer of cert-manager that makes its Secret; empty where it is made here.
    """

    name: str = ""
    hosts: tuple[str, ...] = field(default_factory=tuple)
    days: int = 90
    authority: str = ""
    ca: bool = False
    client: bool = False
    issuer: str = ""

    @property
    def keys(self) -> list[str]:
        """The keys of its Secret. That of the CA is one that cert-manager's issuers read too."""
        if self.ca:
            return [CERTIFICATE, KEY, NEXT_CERTIFICATE, NEXT_KEY, PREVIOUS_CERTIFICATE]
        return [AUTHORITY, CERTIFICATE, KEY] if self.authority else [CERTIFICATE, KEY]


def read_certificate(where: str, given: Mapping[str, Any]) -> Certificate:
    """Read the option certificate of a Secret.

    Args:
        where: What to call the Secret in messages.

    Raises:
        WrongInputError: It is not as documented.
    """
    if not 1 <= given["days"] <= LONGEST:
        raise WrongInputError(f"{where}: certificate.days is {given['days']}, and must be from 1 to {LONGEST}")
    if given["ca"] and given["authority"]:
        raise WrongInputError(f"{where}: certificate.ca is for a CA of the stack's own, which no authority signs")
    if given["ca"] and given["issuer"]:
        raise WrongInputError(f"{where}: certificate.ca is for a CA of the stack's own, which no issuer makes")
    return Certificate(
        given["common_name"],
        tuple(given["hosts"]),
        given["days"],
        given["authority"],
        given["ca"],
        given["client"],
        given["issuer"],
    )


def _library() -> SimpleNamespace:
    """Give what is used of the Python library cryptography, which is slow to import.

    Raises:
        CertificateError: It is missing.
    """
    try:
        from cryptography import x509  # noqa: PLC0415  see above
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415  see above
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415  see above
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  see above
    except ImportError:
        raise CertificateError(
            "needs the Python library cryptography on the control node: pip install cryptography"
        ) from None
    return SimpleNamespace(
        x509=x509,
        hashes=hashes,
        serialization=serialization,
        ec=ec,
        # What it raises for a certificate or key that is none, is encrypted, or of a kind that it does not know.
        unreadable=(ValueError, TypeError, UnsupportedAlgorithm),
        unsigned=(InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm),
    )


def now() -> datetime.datetime:
    """Give the time, in whole seconds as certificates have it."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


# --- what is there ----------------------------------------------------------------------------------------------------


def verify(values: Mapping[str, bytes], wanted: Certificate, at: datetime.datetime) -> None:
    """See that a certificate of others will do: its key matches, it is for the hosts, and it is valid.

    Raises:
        CertificateError: It will not.
    """
    certificate, _key = _pair(values)
    x509 = _library().x509
    if wanted.ca:
        if b"PRIVATE KEY" in values[CERTIFICATE]:
            raise CertificateError(f"has a private key in {CERTIFICATE}, which clients are given")
        try:
            may_sign = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            may_sign = False
        if not may_sign:
            raise CertificateError(f"has a certificate in {CERTIFICATE} that is not of a CA")
    if certificate.not_valid_after_utc <= at:
        raise CertificateError(
            f"has a certificate in {CERTIFICATE} that expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    if certificate.not_valid_before_utc > at + SKEW:
        raise CertificateError(
            f"has a certificate in {CERTIFICATE} that is valid from {certificate.not_valid_before_utc:%Y-%m-%d} only"
        )
    names = _hosts(certificate)
    for host in wanted.hosts:
        if not any(_covers(name, host) for name in names):
            its = ", ".join(names) or "no host"
            raise CertificateError(f"has a certificate in {CERTIFICATE} for {its}, and not for {host}")


def validity(text: bytes) -> tuple[datetime.datetime, datetime.datetime]:
    """Give from when to when a certificate is valid, the first of its file.

    Raises:
        CertificateError: It is none.
    """
    library = _library()
    try:
        certificate = library.x509.load_pem_x509_certificates(text)[0]
    except library.unreadable:
        raise CertificateError("is no certificate in PEM form") from None
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def stays(values: Mapping[str, bytes], wanted: Certificate, authority: Bundle, at: datetime.datetime) -> bool:
    """Tell whether a certificate that was issued here is as requested, and more than a third of its life is left.

    Args:
        authority: The CA's certificate and key; those of the certificate itself for a CA.
    """
    certificate = _signed(values, authority)
    if certificate is None:
        return False
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    asked = wanted.ca or (
        set(_hosts(certificate)) == {host.strip("[]") for host in wanted.hosts}
        and _common_name(certificate) == wanted.name[:LONGEST_NAME]
    )
    # Also where fewer days are requested than are left.
    return bool(asked and begin <= at + SKEW and (end - begin) / 3 < end - at <= wanted.days * DAY + SKEW)


def signed(values: Mapping[str, bytes], authority: Bundle) -> bool:
    """Tell whether a certificate, which has its key, was signed by a CA."""
    return _signed(values, authority) is not None


def _signed(values: Mapping[str, bytes], authority: Bundle) -> Any:
    """Give a certificate that a CA has signed; None where that is not so, or the key is another one's."""
    library = _library()
    try:
        certificate, _key = _pair(values)
        certificate.verify_directly_issued_by(library.x509.load_pem_x509_certificate(authority[CERTIFICATE]))
    except (CertificateError, *library.unsigned):
        return None
    return certificate


def _pair(values: Mapping[str, bytes]) -> tuple[Any, Any]:
    """Read a certificate, the first of its file, and its key.

    Raises:
        CertificateError: One of them is missing or something else, or they do not belong together.
    """
    library = _library()
    for name in (CERTIFICATE, KEY):
        if not values.get(name):
            raise CertificateError(f"has nothing in its key {name}")
    try:
        certificate = library.x509.load_pem_x509_certificates(values[CERTIFICATE])[0]
        public = _public(certificate.public_key())
    except library.unreadable:
        raise CertificateError(f"has no certificate in PEM form in its key {CERTIFICATE}") from None
    try:
        key = library.serialization.load_pem_private_key(values[KEY], None)
    except library.unreadable:
        raise CertificateError(f"has no private key in PEM form, without a passphrase, in its key {KEY}") from None
    if _public(key.public_key()) != public:
        raise CertificateError(f"has a private key in {KEY} that is not that of the certificate in {CERTIFICATE}")
    return certificate, key


def _public(key: Any) -> bytes:
    serialization = _library().serialization
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public: bytes = key.public_bytes(serialization.Encoding.DER, form)
    return public


def _hosts(certificate: Any) -> list[str]:
    """Name what a certificate is for; browsers no longer look at the common name."""
    x509 = _library().x509
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(each) for each in names.get_values_for_type(x509.IPAddress)),
    ]


def _common_name(certificate: Any) -> str:
    oid = _library().x509.oid.NameOID.COMMON_NAME
    return next((str(each.value) for each in certificate.subject.get_attributes_for_oid(oid)), "")


def _covers(name: str, host: str) -> bool:
    """Tell whether a name of a certificate is that of a host; C(*) stands for one label."""
    name, host = name.lower(), host.lower().strip("[]")
    return name == host or (name.startswith("*.") and name[2:] == host.partition(".")[2])


def trusted(authority: Bundle) -> bytes:
    """Give the certificates that clients of a CA trust, in PEM form: the current, the next, and the previous one."""
    found = [authority.get(name, b"").strip() for name in (CERTIFICATE, NEXT_CERTIFICATE, PREVIOUS_CERTIFICATE)]
    return b"".join(each + b"\n" for each in dict.fromkeys(found) if each)


# --- what is issued ---------------------------------------------------------------------------------------------------


def issue_authority(wanted: Certificate, at: datetime.datetime, former: Mapping[str, bytes] | None = None) -> Bundle:
    """Issue the certificate of a CA.

    Args:
        former: The CA so far, whose key and name stay; without one that can be read, there is a new one.
    """
    library = _library()
    x509 = library.x509
    try:
        certificate, key = _pair(former or {})
        subject = certificate.subject
    except CertificateError:
        key = library.ec.generate_private_key(library.ec.SECP256R1())
        # A name of its own, since clients may trust the CAs of several stacks.
        subject = _name(f"{wanted.name[: LONGEST_NAME - 9]} {randomness.token_hex(4)}")
    usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
    builder = (
        _builder(subject, subject, key.public_key(), at, at + wanted.days * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    return {CERTIFICATE: _pem(builder.sign(key, library.hashes.SHA256())), KEY: _private_pem(key)}


def ensure_authority(
    wanted: Certificate, at: datetime.datetime, former: Mapping[str, bytes], *, rotate: bool
) -> Bundle:
    """Give a CA with the next one: what is there stays until it has to be renewed.

    Args:
        former: The CA so far, which may be empty.
        rotate: Whether the next one becomes the current one.

    Raises:
        CertificateError: There is no next one.
    """
    current = {name: former[name] for name in (CERTIFICATE, KEY) if former.get(name)}
    coming = {own: former[name] for own, name in ((CERTIFICATE, NEXT_CERTIFICATE), (KEY, NEXT_KEY)) if former.get(name)}
    previous = former.get(PREVIOUS_CERTIFICATE)
    if rotate and current:
        if not coming:
            raise CertificateError("has no next CA yet: run site.yml first, so that all pods know it")
        previous, current, coming = current[CERTIFICATE], coming, {}
    current, coming = (
        each if each and stays(each, wanted, each, at) else issue_authority(wanted, at, each)
        for each in (current, coming)
    )
    return {
        **current,
        NEXT_CERTIFICATE: coming[CERTIFICATE],
        NEXT_KEY: coming[KEY],
        PREVIOUS_CERTIFICATE: previous or current[CERTIFICATE],
    }


def issue(wanted: Certificate, authority: Bundle, at: datetime.datetime) -> Bundle:
    """Issue a certificate with a new key. It ends with that of the CA at the latest.

    Raises:
        CertificateError: The CA's certificate or key cannot be read.
    """
    library = _library()
    x509 = library.x509
    issuer, signer = _pair(authority)
    key = library.ec.generate_private_key(library.ec.SECP256R1())
    end = min(at + wanted.days * DAY, issuer.not_valid_after_utc)
    purpose = x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH if wanted.client else x509.oid.ExtendedKeyUsageOID.SERVER_AUTH
    usage = dict.fromkeys(_USAGES, False) | {"digital_signature": True}
    builder = (
        _builder(_name(wanted.name[:LONGEST_NAME]), issuer.subject, key.public_key(), at, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if wanted.hosts:
        names = [_alternative(host) for host in wanted.hosts]
        # https://www.rfc-editor.org/rfc/rfc5280#section-4.2.1.6
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not wanted.name)
    signed = builder.sign(signer, library.hashes.SHA256())
    return {AUTHORITY: trusted(authority), CERTIFICATE: _pem(signed), KEY: _private_pem(key)}


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _builder(subject: Any, issuer: Any, public: Any, at: datetime.datetime, end: datetime.datetime) -> Any:
    x509 = _library().x509
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(text: str) -> Any:
    x509 = _library().x509
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)] if text else [])


def _alternative(host: str) -> Any:
    x509 = _library().x509
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: Any) -> bytes:
    pem: bytes = certificate.public_bytes(_library().serialization.Encoding.PEM)
    return pem


def _private_pem(key: Any) -> bytes:
    serialization = _library().serialization
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem
