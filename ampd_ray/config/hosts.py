"""Which hosts are this machine, and whose word it takes that others are who they say."""

import ipaddress
import ssl


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and an address of loopback; a name that only begins like one is somebody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authorities() -> str | None:
    """The file of the authorities that this machine trusts, or ``SSL_CERT_FILE``; None where there is none.

    For clients that bring a list of their own, or none: everybody is held against the same.
    """
    return ssl.get_default_verify_paths().cafile
