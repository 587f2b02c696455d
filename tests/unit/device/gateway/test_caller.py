"""Who a request counts as."""

from __future__ import annotations

import pytest

from forge.device.gateway.caller import address_of


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("192.168.1.5", "192.168.1.5"),
        ("::ffff:192.168.1.5", "192.168.1.5"),  # an IPv4 client of an IPv6 socket
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),  # another address of the same host
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_counts_as_its_host(client: str, address: str) -> None:
    assert address_of((client, 4711)) == address


def test_a_client_without_an_address_is_one_caller() -> None:
    assert address_of(None) == ""
