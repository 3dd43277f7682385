"""Where a webhook may go: the form of its URL, and the addresses behind its name.

A third party chooses the URL, the CCS makes the connection: so whatever the utility's own network
trusts must be out of reach. The lists are written out; Python's ``is_global`` is not a filter.
"""

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, urlsplit

import idna
import msgspec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
PORT_DEFAULT = {"https": 443, "http": 80}

DENIED: dict[Network, str] = {
    ip_network(network): why
    for network, why in {
        "0.0.0.0/8": "unspecified",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by carriers (CGNAT)",
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "a cloud's own services",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "documentation",
        "192.31.196.0/24": "AS112 anycast",
        "192.52.193.0/24": "AMT anycast",
        "192.88.99.0/24": "6to4 relay",
        "192.168.0.0/16": "private",
        "192.175.48.0/24": "AS112 anycast",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        "::/128": "unspecified",
        "::1/128": "loopback",
        "::/96": "IPv4-compatible",
        "::ffff:0:0/96": "IPv4-mapped",
        "::ffff:0:0:0/96": "IPv4-translated",
        "64:ff9b::/96": "NAT64",
        "64:ff9b:1::/48": "NAT64, local",
        "100::/64": "discard-only",
        "2001::/32": "Teredo",
        "2001::/23": "reserved for protocols",
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",
        "2620:4f:8000::/48": "AS112 anycast",
        "3ffe::/16": "returned (6bone)",
        "3fff::/20": "documentation",
        "fc00::/7": "unique local",
        "fe80::/10": "link-local",
        "fec0::/10": "site-local",
        "ff00::/8": "multicast",
    }.items()
}
GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that is given out of IPv6; the rest is reserved, whatever it may become."""

_LOOPBACKS = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_PORT = re.compile(r":(?P<port>[0-9]*)\Z")


class AddressRefused(Exception):
    """A webhook may not go there; the text says why, for the third party to read.

    ``why`` is the part of it that names no address.
    """

    def __init__(self, text: str, why: str = "") -> None:
        super().__init__(text)
        self.why = why or text


class AddressPolicy(msgspec.Struct, frozen=True):
    """What an operator allows beyond the rule.

    ``allow_networks``: networks taken out of the deny list (``127.0.0.0/8`` for a demo on one machine).
    A URL that names such an address in figures may use any port, and plain ``http`` if it is loopback.
    """

    allow_networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset({443, 8443})


class Target(msgspec.Struct, frozen=True):
    """A URL that may be tried: ``url`` is rebuilt from what was checked, so nobody reads it differently."""

    url: str
    secure: bool
    netloc: str


def policy_of(allow_networks: Iterable[str], ports: Iterable[int] = (443, 8443)) -> AddressPolicy:
    """Return a policy from its written form; raise ``ValueError`` naming the network that is none."""
    return AddressPolicy(tuple(ip_network(network) for network in allow_networks), frozenset(ports))


def check_address(address: Address, policy: AddressPolicy) -> None:
    """Raise :class:`AddressRefused` unless a connection to ``address`` is allowed."""
    if _allowed(address, policy):
        return
    for network, why in DENIED.items():
        if address.version == network.version and address in network:
            raise AddressRefused(f"{address} is not reachable from here: {why}", why)
    if isinstance(address, IPv6Address) and (address not in GLOBAL_UNICAST or address.scope_id):
        why = "not global unicast"
        raise AddressRefused(f"{address} is not reachable from here: {why}", why)


def _allowed(address: Address, policy: AddressPolicy) -> bool:
    return any(address.version == network.version and address in network for network in policy.allow_networks)


def check_url(url: str, policy: AddressPolicy) -> Target:
    """Return where ``url`` points; raise :class:`AddressRefused` for any form that is not plain.

    Names are still to be resolved, and each of their addresses to be checked, when a connection is made.
    """
    parts = _split(url)
    host, port = _host_and_port(parts)
    literal = _literal(host)
    if literal is not None:
        check_address(literal, policy)
    trusted = literal is not None and _allowed(literal, policy)
    if parts.scheme == "http" and not (trusted and literal is not None and _is_loopback(literal)):
        raise AddressRefused("only https is allowed")
    if port not in policy.ports and not trusted:
        raise AddressRefused(f"port {port} is not allowed; use one of {sorted(policy.ports)}")
    shown = f"[{literal}]" if isinstance(literal, IPv6Address) else host
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    netloc = f"{shown}:{port}"
    return Target(f"{parts.scheme}://{netloc}{path}{query}", parts.scheme == "https", netloc)


def _is_loopback(address: Address) -> bool:
    return any(address.version == network.version and address in network for network in _LOOPBACKS)


def _split(url: str) -> SplitResult:
    if len(url) > URL_LENGTH_MAX:
        raise AddressRefused(f"the URL is longer than {URL_LENGTH_MAX} characters")
    if any(not character.isprintable() or character in ' \\"<>^`{|}' for character in url):
        raise AddressRefused("the URL has a blank, a backslash or another character that none may have")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AddressRefused(f"the URL cannot be read: {error}") from None
    if parts.scheme not in PORT_DEFAULT:
        raise AddressRefused("only https is allowed")
    if "@" in parts.netloc:
        raise AddressRefused("the URL may not carry a user name or password")
    if "#" in url:
        raise AddressRefused("the URL may not have a fragment (#…)")
    if not (parts.path + parts.query).isascii():
        raise AddressRefused("path and query must be percent-encoded")
    return parts


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    found = _PORT.search(parts.netloc)
    raw = parts.netloc[: found.start()] if found else parts.netloc
    port = found["port"] if found else str(PORT_DEFAULT[parts.scheme])
    if not port or not 0 < int(port[:6]) < 65536 or str(int(port[:6])) != port:
        raise AddressRefused(f"{port!r} is not a port")
    if not raw.startswith("["):
        return _name(raw), int(port)
    host = raw.removeprefix("[").removesuffix("]")
    if ":" not in host:
        raise AddressRefused(f"{raw[:80]!r} is not an address in plain form")
    return host, int(port)


def _name(raw: str) -> str:
    """Return a host name as DNS sees it: lower case, IDNA-encoded, without the root's dot."""
    try:
        host = raw.lower() if raw.isascii() else idna.encode(raw, uts46=True, std3_rules=True).decode()
    except idna.IDNAError as error:
        raise AddressRefused(f"{raw[:80]!r} is not a host name: {error}") from None
    labels = host.split(".")
    if not host or len(host) > HOST_LENGTH_MAX or not all(_LABEL.match(label) for label in labels):
        raise AddressRefused(f"{raw[:80]!r} is not a host name")
    if len(labels) == 1 and not _NUMBER.match(host):
        raise AddressRefused(f"{host!r} is not a full host name")
    return host


def _literal(host: str) -> Address | None:
    """Return the address that a host is, or ``None`` for a name.

    A host that ends in a number is an address to every resolver, in octal, hexadecimal or with parts
    left out: of these forms only the plain four numbers are accepted.
    """
    if ":" in host or _NUMBER.match(host.rpartition(".")[2]):
        if "%" in host:
            raise AddressRefused(f"{host!r} names a zone; that is for local use only")
        try:
            return ip_address(host)
        except ValueError:
            raise AddressRefused(f"{host!r} is not an address in plain form") from None
    return None
