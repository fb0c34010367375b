"""Compression of large parts of a page that are not shown first; `templates/packed.js` decompresses them."""

import base64
import zlib


def packed(text: str) -> str:
    """Return a text deflated (zlib, RFC 1950), in base64."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")
