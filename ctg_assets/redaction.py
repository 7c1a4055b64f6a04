"""Secrets, kept out of whatever is logged and printed: a second line of defence behind texts that have none.

Whoever reads a secret (settings, sinks' secrets, passwords of roles) says so here once. From then on no
record of this process's logging, and no message on its standard error, has it in it.
"""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote, urlsplit

_HIDDEN = "(secret)"

# What is shorter is part of too many words; a password of so few letters is no secret anyway.
_SHORTEST = 6

_PASSWORD_IN_QUERY = re.compile(r"\bpassword\s*=\s*([^&\s]+)")

_spellings: set[str] = set()


def keep_secret(value: str | None) -> None:
    """Show a value nowhere from now on; of a URL or a connection string its password alone, too."""
    if value is None:
        return
    for secret in (value, *_passwords_in(value)):
        spelled = {
            secret,
            quote(secret, safe=""),
            quote_plus(secret),
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            base64.b64encode(secret.encode()).decode(),
        }
        _spellings.update(text for text in spelled if len(text) >= _SHORTEST)


def without_secrets(text: str) -> str:
    """A text with each secret that is known by now replaced."""
    found = [secret for secret in tuple(_spellings) if secret in text]
    # The longest first: one may be part of another.
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _passwords_in(value: str) -> list[str]:
    found = _PASSWORD_IN_QUERY.findall(value)
    with suppress(ValueError):  # no URL
        found.append(urlsplit(value).password or "")
    return [unquote(password) for password in found if password]
