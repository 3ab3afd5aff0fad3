"""Errors as RFC 9457 problem details: the one place where causes become HTTP status codes."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web

from peewit_federation.errors import (
    AuthorError,
    ConflictError,
    ForgeryError,
    LimitError,
    MalformedError,
    OperatorError,
    PeewitError,
    QuotaError,
    RefusedError,
    UnknownError,
)
from peewit_node.engine import StorageError, StorageFullError
from peewit_node.machine import CheckerError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS: Final[dict[type[Exception], int]] = {
    LimitError: 413,
    MalformedError: 400,
    ForgeryError: 422,
    UnknownError: 404,
    QuotaError: 429,
    RefusedError: 403,
    ConflictError: 409,
    AuthorError: 409,
    CheckerError: 503,
    OperatorError: 500,
    StorageFullError: 507,
    StorageError: 503,
}
logger = structlog.get_logger("peewit.http")


def problem(error: Exception, status: int | None = None) -> web.Response:
    """An error as a response."""
    for kind in type(error).__mro__:
        if status is None and kind in STATUS:
            status = STATUS[kind]
    name = type(error).__name__.removesuffix("Error").lower()
    body: dict[str, object] = {"type": f"urn:peewit:{name}", "title": str(error), "status": status or 500}
    if isinstance(error, ConflictError) and error.size is not None:
        body["size"] = error.size
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}  # a tile may be there soon
    return web.Response(body=json.dumps(body).encode(), status=status or 500, headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors with a known cause into problem details; others into a 500 that tells nothing."""
    try:
        return await handler(request)
    except (PeewitError, StorageError) as error:
        return problem(error)
    except TimeoutError:
        return problem(PeewitError("the request's body did not arrive in time"), 408)
    except web.HTTPRequestEntityTooLarge:
        return problem(LimitError("the request's body is too large"))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem(PeewitError(error.reason), error.status)
    except ConnectionError:
        raise
    except Exception:
        logger.exception("a request failed", route=request.match_info.route.name, method=request.method)
        return problem(PeewitError("an error of this node; its operator's log says more"), 500)
