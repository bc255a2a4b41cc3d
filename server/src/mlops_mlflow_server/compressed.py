# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bound what a compressed batch of traces expands to.

MLflow expands it without a limit, so 32 MiB could become 32 GiB. Here the largest body of a call (`bounds`) holds for
what it expands to as well.
"""

import functools
import zlib

from fastapi import HTTPException

from mlops_mlflow_server import bounds
from mlops_mlflow_server.settings import number

# What is the case where this does not fit.
CONSEQUENCE = "a small request could take all memory"
# Windows of zlib by encoding, in the order in which MLflow tries them.
_WINDOWS = {
    "gzip": (zlib.MAX_WBITS | 16,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
}


@functools.cache
def _largest() -> int:
    return int(number("MLOPS_REQUEST_MAX_SIZE", bounds.LARGEST_CALL, minimum=1))


def _expanded(body: bytes, window: int) -> bytes | None:
    """Return the content of all members of a compressed body, or None if it is malformed."""
    content = b""
    while body:
        member = zlib.decompressobj(window)
        try:
            content += member.decompress(body, _largest() + 1 - len(content))
        except zlib.error:
            return None
        if len(content) > _largest():
            raise HTTPException(413, bounds.too_large(_largest()).message)
        if not member.eof:
            return None
        body = member.unused_data
    return content


def decompress_otlp_body(raw_body: bytes, content_encoding: str) -> bytes:
    """Return the expanded body; replacement for MLflow's function.

    Raises:
        HTTPException: it is too large, malformed, or of another encoding.
    """
    if content_encoding not in _WINDOWS:
        raise HTTPException(400, f"Unsupported Content-Encoding: {content_encoding}")
    for window in _WINDOWS[content_encoding]:
        content = _expanded(raw_body, window)
        if content is not None:
            return content
    raise HTTPException(400, f"Failed to decompress {content_encoding} payload")


def install() -> bool:
    """Replace MLflow's function; return whether this version has it."""
    from mlflow.server import otel_api  # noqa: PLC0415  (imports MLflow's server, see app.py)

    if not hasattr(otel_api, "decompress_otlp_body"):
        return False
    otel_api.decompress_otlp_body = decompress_otlp_body
    return True
