"""Asking several nodes the same at once, without letting one that hangs hold up what the others did.

Rules kept here: nobody is waited for who is `PATIENCE_S` (or `wait_s`) later than the first that did what was asked;
who is given up counts as not reached, which is always safe, for whatever is asked may be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from peewit_clients.backend import BackendError

T = TypeVar("T")
PATIENCE_S: Final = 1.0


async def together(
    calls: Iterable[Coroutine[Any, Any, T]], wait_s: float | None = None, enough: int = 1
) -> list[T | BackendError]:
    """What each call gave, or why it failed, in their order. Errors that are no node's are raised.

    `wait_s` is for what several nodes decide, and one that is slow should be heard; it begins when so many nodes as are
    `enough` did what was asked.
    """
    tasks: list[asyncio.Task[T]] = [asyncio.create_task(call) for call in calls]
    try:
        waiting, patience_s, until_s, good = set(tasks), None, 0.0, 0
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            good += sum(task.exception() is None for task in done)
            if patience_s is None and good >= enough:
                patience_s = PATIENCE_S if wait_s is None else wait_s
                until_s = asyncio.get_running_loop().time() + patience_s
            elif patience_s is not None:
                patience_s = max(0.0, until_s - asyncio.get_running_loop().time())
        return [_result(task) for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


def _result(task: asyncio.Task[T]) -> T | BackendError:
    if not task.done():
        return BackendError("slower than the others, and not waited for")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, BackendError):
        return error
    raise error
