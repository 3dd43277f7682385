"""Which URLs and addresses a webhook may go to."""

from ipaddress import ip_address

import pytest

from doorward.ccs.engines.webhook_address import AddressRefused, check_address, check_url, policy_of

STRICT = policy_of(())
DEMO = policy_of(["127.0.0.0/8", "::1/128"])

HOSTILE_URLS = {
    # not https
    "http://example.com/": "https",
    "http://127.0.0.1/": "loopback",
    "ftp://example.com/": "https",
    "file:///etc/passwd": "https",
    "gopher://example.com/": "https",
    "javascript:alert(1)": "https",
    "//example.com/": "https",
    "example.com/hook": "https",
    "": "https",
    # loopback and private, plainly
    "https://127.0.0.1/": "loopback",
    "https://127.255.255.254/": "loopback",
    "https://10.0.0.5/": "private",
    "https://172.16.0.1/": "private",
    "https://172.31.255.255/": "private",
    "https://192.168.1.1/": "private",
    "https://169.254.169.254/latest/meta-data": "link-local",
    "https://100.64.0.1/": "CGNAT",
    "https://100.100.100.200/": "CGNAT",
    "https://168.63.129.16/": "cloud",
    "https://0.0.0.0/": "unspecified",
    "https://0.1.2.3/": "unspecified",
    "https://192.0.0.192/": "reserved",
    "https://192.0.2.1/": "documentation",
    "https://198.51.100.7/": "documentation",
    "https://203.0.113.9/": "documentation",
    "https://198.18.0.1/": "benchmarking",
    "https://224.0.0.1/": "multicast",
    "https://240.0.0.1/": "reserved",
    "https://255.255.255.255/": "reserved",
    "https://192.88.99.1/": "6to4",
    # the same in figures that resolvers understand
    "https://0x7f000001/": "plain form",
    "https://0x7f.0.0.1/": "plain form",
    "https://2130706433/": "plain form",
    "https://017700000001/": "plain form",
    "https://0177.0.0.1/": "plain form",
    "https://127.1/": "plain form",
    "https://127.0.1/": "plain form",
    "https://127.0.0.01/": "plain form",
    "https://127.0.0.0x1/": "plain form",
    "https://0/": "plain form",
    "https://0x/": "plain form",
    "https://1.2.3.256/": "plain form",
    "https://127.0.0.1./": "host name",
    "https://example.0x7f/": "plain form",
    "https://[127.0.0.1]/": "plain form|cannot be read",
    "https://[8.8.8.8]/": "plain form|cannot be read",
    "https://①②⑦.⓪.⓪.①/": "loopback",
    "https://１２７.0.0.1/": "loopback",
    "https://127。0。0。1/": "loopback",
    # IPv6
    "https://[::1]/": "loopback",
    "https://[::]/": "unspecified",
    "https://[::127.0.0.1]/": "IPv4-compatible",
    "https://[::ffff:127.0.0.1]/": "IPv4-mapped",
    "https://[::ffff:7f00:1]/": "IPv4-mapped",
    "https://[::ffff:8.8.8.8]/": "IPv4-mapped",
    "https://[::ffff:0:127.0.0.1]/": "IPv4-translated",
    "https://[0:0:0:0:0:0:0:1]/": "loopback",
    "https://[64:ff9b::7f00:1]/": "NAT64",
    "https://[64:ff9b::8.8.8.8]/": "NAT64",
    "https://[64:ff9b:1::a00:1]/": "NAT64",
    "https://[2002:7f00:1::]/": "6to4",
    "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/": "Teredo",
    "https://[2001:db8::1]/": "documentation",
    "https://[3fff::1]/": "documentation",
    "https://[2001:2::1]/": "reserved",
    "https://[fc00::1]/": "unique local",
    "https://[fd00:ec2::254]/": "unique local",
    "https://[fe80::1]/": "link-local",
    "https://[fe80::1%25eth0]/": "zone",
    "https://[2606:4700::1%eth0]/": "zone",
    "https://[fec0::1]/": "site-local",
    "https://[ff02::1]/": "multicast",
    "https://[100::1]/": "discard",
    "https://[5f00::1]/": "not global",
    "https://[4000::1]/": "not global",
    "https://[::1/": "cannot be read",
    "https://[::1]evil.com/": "plain form|cannot be read",
    # names that are not whole
    "https://localhost/": "full host name",
    "https://intranet/": "full host name",
    "https://example.com./": "host name",
    "https://.example.com/": "host name",
    "https://exa mple.com/": "blank",
    "https://-example.com/": "host name",
    "https://exam%70le.com/": "host name",
    "https:///hook": "host name",
    "https://" + "a" * 64 + ".com/": "host name",
    # tricks with the parts
    "https://user@example.com/": "user name",
    "https://user:pass@example.com/": "user name",
    "https://example.com@127.0.0.1/": "user name",
    "https://127.0.0.1@example.com/": "user name",
    "https://example.com#@127.0.0.1/": "fragment",
    "https://example.com/#part": "fragment",
    "https://example.com\\@127.0.0.1/": "backslash",
    "https://example.com/\r\nHost: evil": "blank",
    "https://example.com/\x00": "blank",
    "https://exam\u200bple.com\u2028/": "blank",
    "https://example.com/hök": "percent-encoded",
    "https://example.com:22/": "port",
    "https://example.com:80/": "port",
    "https://example.com:0/": "port",
    "https://example.com:/": "port",
    "https://example.com:0443/": "port",
    "https://example.com:65536/": "port",
    "https://example.com:443443443443/": "port",
    "https://example.com/" + "a" * 2048: "longer",
}


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_url_is_refused_with_its_reason(url: str) -> None:
    with pytest.raises(AddressRefused, match=HOSTILE_URLS[url]):
        check_url(url, STRICT)


@pytest.mark.parametrize(
    "url, becomes",
    [
        ("https://example.com", "https://example.com:443/"),
        ("HTTPS://Example.COM:8443/Hook?x=1", "https://example.com:8443/Hook?x=1"),
        ("https://bücher.example/a%20b", "https://xn--bcher-kva.example:443/a%20b"),
        ("https://8.8.8.8/", "https://8.8.8.8:443/"),
        ("https://[2606:4700:0::1111]/", "https://[2606:4700::1111]:443/"),
    ],
)
def test_a_plain_url_is_taken_in_one_form(url: str, becomes: str) -> None:
    assert check_url(url, STRICT).url == becomes


def test_an_allowed_network_opens_any_port_and_plain_http_on_loopback_only() -> None:
    assert check_url("http://127.0.0.1:8080/in", DEMO).netloc == "127.0.0.1:8080"
    assert not check_url("http://[::1]:8080/in", DEMO).secure
    with pytest.raises(AddressRefused, match="https"):
        check_url("http://10.0.0.5:8080/in", policy_of(["10.0.0.0/8"]))
    assert check_url("https://10.0.0.5:9000/in", policy_of(["10.0.0.0/8"])).netloc == "10.0.0.5:9000"
    with pytest.raises(AddressRefused, match="private"):
        check_url("https://192.168.0.1/", DEMO)


def test_an_ipv6_address_with_a_zone_is_refused() -> None:
    with pytest.raises(AddressRefused, match="not global"):
        check_address(ip_address("2606:4700::1%eth0"), STRICT)
