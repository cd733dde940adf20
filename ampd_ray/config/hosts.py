"""Which hosts are this machine."""

import ipaddress


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and an address of loopback; a name that only begins like one is somebody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
