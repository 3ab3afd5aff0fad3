"""Mirror and verify a transparency log of anybody, with the pure core and twenty lines of I/O.

    python examples/mirror_log.py http://127.0.0.1:8101/log/<origin hash>

With --self-contained it starts a small federation of its own first, so that it runs anywhere.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp

from peewit_federation.log.checkpoint import Checkpoint
from peewit_federation.log.follow import Follow
from peewit_federation.log.merkle import CompactRange
from peewit_federation.log.note import Note


async def mirror(url: str) -> None:
    async with aiohttp.ClientSession() as session:

        async def fetch(path: str) -> bytes:
            async with session.get(f"{url}/{path}") as response:
                response.raise_for_status()
                return await response.read()

        note = Note.parse(await fetch("checkpoint"))
        head = Checkpoint.parse(note.text)
        # `Follow` does no I/O: it says which files to fetch, and checks each of them against the head.
        follow = Follow(head, CompactRange(), thorough=True)
        follow.accept_hashes({tile: await fetch(tile.path) for tile in follow.hash_tiles})
        tree, entries = CompactRange(), []
        for tile in follow.bundles:
            bundle = follow.accept_bundle(tile, await fetch(tile.path))
            tree.extend(bundle.leaves)
            entries += bundle.entries
        assert tree.root() == head.root
        print(f"{head.origin}\n{len(entries)} entries, {sum(map(len, entries))} bytes, root {head.root.hex()}")
        print(f"signed by {', '.join(signature.name for signature in note.signatures)}")


async def main() -> None:
    if "--self-contained" in sys.argv:
        from examples.small_federation import small_federation

        async with small_federation() as federation:
            await mirror(federation.log_url)
    else:
        await mirror(sys.argv[1].rstrip("/"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    asyncio.run(main())
