"""JSON that is still text: mended and pruned before a typed reader sees it.

Guarantee: in a mended text no string has U+0000 or a lone surrogate; a pruned text is nested at most so deep, and
what is within that is unchanged. Both leave what is no JSON for the reader to refuse.
Limit: TOKENS_MAX strings and brackets in a text that is pruned, since Python looks at each of them.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

_ODD: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89aAbB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL
)
_LONE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})").fullmatch
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{\]}]', re.DOTALL)
TOKENS_MAX: Final = 2_000_000


def mended(body: bytes) -> bytes:
    """With U+FFFD in the place of U+0000 and of lone surrogates."""
    return _ESCAPE.sub(_mend, body) if _ODD.search(body) else body


def _mend(escape: re.Match[bytes]) -> bytes:
    found = escape.group()
    return rb"\ufffd" if _LONE(found) else found


def pruned(body: bytes, depth_max: int) -> bytes:
    """With everything left out that stands in brackets deeper than `depth_max`; empty where that is no use."""
    kept: list[bytes] = []
    depth = begin = 0
    for token in islice(_TOKEN.finditer(body), TOKENS_MAX):
        sign = token.group()
        if sign in b"[{":
            depth += 1
            if depth == depth_max + 1:
                kept.append(body[begin : token.start()])
        elif sign in b"]}":
            depth -= 1
            if depth == depth_max:
                kept.append(b"null")
                begin = token.end()
    return b"" if depth else b"".join((*kept, body[begin:]))
