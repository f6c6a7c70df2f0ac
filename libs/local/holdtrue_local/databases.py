"""Which role of PostgreSQL each service uses."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from .data_folder import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Accounts:
    """One role per service, named like it. Our own server trusts its private socket; an outside one wants passwords.

    Attributes:
        admin: The superuser's URI.
        passwords: By role; None where the server asks for none.
    """

    def __init__(self, admin: str, roles: Sequence[str], kept: Path | None) -> None:
        """Read the passwords from the file `kept` (mode 0600), which is made or completed where needed."""
        self.admin = admin
        self.passwords: dict[str, str | None] = dict.fromkeys(roles)
        if kept is not None:
            known: dict[str, str | None] = json.loads(kept.read_text()) if kept.exists() else {}
            self.passwords = {role: known.get(role) or secrets.token_urlsafe(24) for role in roles}
            write_json(kept, known | self.passwords, mode=0o600)

    def dsn(self, role: str) -> str:
        """The superuser's URI with the role in his place."""
        parts = urlsplit(self.admin)
        password = self.passwords[role]
        address = parts.netloc.rpartition("@")[2]
        account = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
        return urlunsplit(parts._replace(netloc=f"{account}@{address}"))
