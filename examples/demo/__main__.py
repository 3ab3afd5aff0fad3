"""`make demo`: see README. Ends non-zero if any step does not hold; KEEP=1 leaves the nodes running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from examples.demo.cluster import Cluster
from examples.demo.story import Story

console = Console(highlight=False, soft_wrap=True)


async def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="peewit-demo-"))
    cluster = Cluster(folder)
    keep = os.environ.get("KEEP") == "1"
    start = time.monotonic()
    failed = False
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await Story(cluster, console).tell(start)
        if keep:
            console.print("\nThe nodes keep running (KEEP=1):")
            for name in cluster.names:
                console.print(f"  {name:6} {cluster.url(name)}/")
            console.print(f"  charter {folder / 'charter.toml'}\nPress Ctrl-C to stop them.")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    except Exception as error:
        failed = True
        console.print(f"[red bold]It does not hold:[/] {type(error).__name__}: {error}")
        console.print(f"The nodes' logs are in {folder}/*/node.log")
        if os.environ.get("TRACE"):
            console.print_exception()
    finally:
        await cluster.stop()
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
