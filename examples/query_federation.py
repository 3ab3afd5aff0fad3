"""Ask a federation who serves a postcode, trusting none of its nodes.

    python examples/query_federation.py charter.toml 10115

With --self-contained it starts a small federation of its own first, so that it runs anywhere.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from peewit_clients.pool import BackendPool
from peewit_clients.registry_view import RegistryView
from peewit_federation.charter import Charter
from peewit_federation.charter_file import parse_charter


async def ask(charter: Charter, postcode: str) -> None:
    async with BackendPool(charter) as pool:
        view = RegistryView(charter, pool)
        await view.refresh()  # the operators' logs: whose mediators count
        # The whole list comes with proofs and is searched here: no node learns the postcode.
        near = [(area, mediator) for area, mediator in await view.catchments() if postcode in area.postcodes]
        # Then the logs of the mediators concerned are followed whole, so that no revocation can be left out.
        await view.refresh([mediator for _, mediator in near])
        now_s = int(view.clock())
        for area, mediator in near:
            practices = list(view.finder.providers(mediator, area.area, now_s))
            print(f"area {area.area.hex()[:12]}…: {', '.join(area.services)}, {len(practices)} practices")
            print(f"  {view.freshness[mediator].words()}")
        for name, what in view.complaints.items():
            print(f"  node {name}: {'; '.join(what)}")


async def main() -> None:
    if "--self-contained" in sys.argv:
        from examples.small_federation import small_federation

        async with small_federation() as federation:
            await ask(federation.charter, "10115")
    else:
        await ask(parse_charter(Path(sys.argv[1]).read_bytes()), sys.argv[2])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    asyncio.run(main())
