"""What a page carries deflated, since it is large and not looked at first: `templates/packed.js` unpacks it."""

import base64
import zlib


def packed(text: str) -> str:
    """Return a text deflated (zlib, RFC 1950), in base64."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")
