"""A certificate authority of a test's own, and servers that have a certificate of it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Authority:
    """``file`` is what those trust who trust it."""

    directory: Path
    _ca: trustme.CA = field(default_factory=trustme.CA)

    @property
    def file(self) -> Path:
        path = self.directory / "ca.pem"
        if not path.exists():
            self._ca.cert_pem.write_to_path(path)
        return path

    def certify(self, *hosts: str) -> tuple[Path, Path]:
        """The certificate of a server that answers to these names, and its key, for its user alone."""
        made = self._ca.issue_cert(*hosts)
        chain, key = self.directory / f"{hosts[0]}.pem", self.directory / f"{hosts[0]}.key"
        key.touch(0o600)
        made.private_key_pem.write_to_path(key)
        chain.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        return chain, key

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """The same for a server of this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certify(*hosts))
        return context
