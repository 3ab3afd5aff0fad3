"""Queues, mailboxes, admission and the draw: rates with correctness counted, against the least that could be done."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import gmpy2
from tests.federation_kit import Federation, TestMediator, catchment, provider, seed
from tests.federation_kit_http import Device, admit

from bench.kit import Blaster, bare_server, get_request, middle, node_process, post_request
from peewit_clients.charters import usual_draw
from peewit_federation.appointment.envelope import Envelope
from peewit_federation.appointment.mailbox import Put, Terms, give_leave
from peewit_federation.appointment.queue_api import CLAIMED, Draw, Place, encode_claim, encode_offered
from peewit_federation.appointment.request import SEALED_BYTES, Request, area_name, claim_hash, claim_link
from peewit_federation.draw.hashes import Person, data_hash, request_hash
from peewit_federation.draw.tickets import Ticket
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.sealed import xwing_public
from peewit_node.config import Admission, Gossip
from peewit_node.node import DATABASE, Node

CLIENTS = (1, 4, 16, 64)
REQUESTS = 512
ROUNDS = 5
MAILBOXES, MESSAGES = 64, 30
SIGNATURES = 100
WAITING = (1_000, 1_000_000)


@dataclass
class World:
    """One node that holds the queue of one area, and requests that were admitted and drawn."""

    federation: Federation
    place: Place
    requests: list[tuple[Request, SigningKey, bytes]]
    practices: list[SigningKey]
    origin: bytes
    "Of the node's operator."

    @property
    def config(self) -> Path:
        return self.federation.folder / "north" / "node.toml"

    def envelope(self, key: SigningKey, path: str, body: bytes) -> bytes:
        signed = Envelope("POST", path, self.origin, int(time.time() * 1000), os.urandom(16), key.public, body)
        return post_request(path, signed.sign(key))


async def prepare(folder: Path, count: int) -> World:
    """Make the world, with so many requests."""
    federation = Federation.make(
        folder, ("north",), quorum=1, gossip=Gossip(), draw=usual_draw(("north",)),
        admission=Admission(kind="open", per_minute=1_000_000),
    )  # fmt: skip
    await federation.start()
    node, mediator = federation.nodes["north"], TestMediator("m")
    await admit(federation, mediator)
    origin = node.state.operator.origin_hash
    area = replace(catchment("mitte", "10115"), keys=((0, xwing_public(seed("area key"))),), nodes=(origin,))
    practices = [SigningKey(seed(f"clinic-{number}")) for number in range(max(CLIENTS))]
    device = Device.of(mediator)
    device.entries += [area.encode(), *(provider(f"clinic-{n}", area).encode() for n in range(len(practices)))]
    assert (await device.publish(federation.url("north")))[0] == 200
    await _open_round(node)
    place = Place(mediator.id, area.area)
    requests = [_request(node, place, number) for number in range(count)]
    await federation.stop()
    return World(federation, place, requests, practices, origin)


async def _open_round(node: Node) -> None:
    schedule = node.state.charter.schedule
    assert schedule is not None
    number, rounds = schedule.round_at(time.time()), node.keeper.registry.rounds
    async with asyncio.timeout(60):
        while rounds.keys(schedule.seats_of(number), number) is None or not rounds.token_key(
            node.state.operator.origin_hash, number, ""
        ):
            await asyncio.sleep(0.1)


def _request(node: Node, place: Place, number: int) -> tuple[Request, SigningKey, bytes]:
    schedule = node.state.charter.schedule
    assert schedule is not None
    key, claim = SigningKey(seed("request", number)), seed("claim", number)
    data = data_hash(Person("Muster", str(number), date(1940, 8, 12)), seed("nonce", number))
    name = request_hash([area_name(place.mediator, place.area)], key_id(key.public), claim_hash(claim), data)
    round_ = schedule.round_at(time.time())
    seats, rounds = schedule.seats_of(round_), node.keeper.registry.rounds
    publics = rounds.keys(seats, round_)
    token_key = node.token_keys.get(round_, "")
    assert publics is not None
    assert token_key is not None
    blinded = token_key.public.blind(name, os.urandom(48), os.urandom(256))
    signature = token_key.blind_sign(blinded.data, os.urandom(256))
    token = token_key.public.finalize(name, signature, blinded)
    proofs = dict(node.draw_keys.prove(seats, round_, publics, name))
    ticket = Ticket(tuple(proofs[at] for at in range(len(publics))))
    request = Request(
        ((place.mediator, place.area),), data, key.public, round_, ((node.state.operator.origin_hash, token),),
        ticket.encode(), 1, claim_hash(claim), seed("mailbox", number), (bytes(32),), (bytes(SEALED_BYTES),),
    )  # fmt: skip
    return request, key, claim


def _spread(requests: list[bytes], clients: int) -> list[list[list[bytes]]]:
    """As a Blaster takes them: each client has one request under way."""
    per = len(requests) // clients
    return [[[requests[client * per + step]] for client in range(clients)] for step in range(per)]


def queue_rates() -> list[tuple[str, str, str]]:
    """Uploads, draws, offers and claims at 1, 4, 16 and 64 clients; what was acknowledged is counted in the file."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        world = asyncio.run(prepare(Path(name), REQUESTS * len(CLIENTS)))
        listen = world.federation.configs["north"].listen
        port = int(listen.rpartition(":")[2])
        with node_process(world.config, listen):
            for level, clients in enumerate(CLIENTS):
                part = world.requests[level * REQUESTS : (level + 1) * REQUESTS]
                rows.append(_level(world, part, clients, port))
        with closing(sqlite3.connect(Path(name) / "north" / DATABASE)) as database:
            query = "SELECT count(*), count(DISTINCT request) FROM requests WHERE state = ? AND length(holder) = 32"
            found = database.execute(query, (CLAIMED,)).fetchone()
    total = REQUESTS * len(CLIENTS)
    assert found == (total, total), f"{total} claims were acknowledged, and {found} are stored"
    return rows


def _level(
    world: World, part: list[tuple[Request, SigningKey, bytes]], clients: int, port: int
) -> tuple[str, str, str]:
    place, practices = world.place, world.practices[:clients]
    speed = {}

    def blast(what: str, requests: list[bytes], each: int = 1) -> None:
        blaster = Blaster(port, clients)
        speed[what] = each * len(requests) / blaster.run(_spread(requests, clients))
        blaster.close()

    blast("uploads", [post_request("/v1/requests", request.sign(key)) for request, key, _ in part])
    # Who draws gets what nobody else has: the node is asked who holds what, so that its holder makes the offer.
    draws = [
        world.envelope(practices[number % clients], "/v1/queue/draw", Draw(place, 1 + number // clients).encode())
        for number in range(min(REQUESTS, clients * 40) // clients * clients)
    ]
    by_client = [draws[client::clients] for client in range(clients)]
    blast("draws", [body for bodies in by_client for body in bodies])
    database = Path(world.federation.folder) / "north" / DATABASE
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT request, holder FROM requests WHERE leased = 1 AND state = 0").fetchall()
    held = dict(rows)
    assert len(held) == len(rows) == len(draws), f"{len(draws)} draws gave {len(held)} requests"
    keys = {key_id(key.public): key for key in practices}
    until_s = int(time.time()) + 3600
    offers = [
        world.envelope(keys[holder], "/v1/queue/offered", encode_offered(place, request, until_s))
        for request, holder in held.items()
    ]
    blast("offers", offers)
    claims = [
        world.envelope(practices[n % clients], "/v1/queue/claim", encode_claim(place, r.name, claim_link(claim, 0)))
        for n, (r, _, claim) in enumerate(part)
    ]
    blast("claims", claims)
    rates = ", ".join(f"{what} {rate:,.0f}" for what, rate in speed.items())
    return f"per second at {clients} clients, each exact", rates, "≥ 500 claims at 4" if clients == 4 else "stated"


def mailboxes() -> tuple[str, str, str]:
    """Durable puts of sealed messages against bare POSTs of the same bytes."""
    ratios, rates = [], []
    with tempfile.TemporaryDirectory() as name:
        world = asyncio.run(prepare(Path(name), 0))
        listen = world.federation.configs["north"].listen
        port = int(listen.rpartition(":")[2])
        with node_process(world.config, listen), bare_server(1) as bare:
            for number in range(ROUNDS):
                puts: list[list[bytes]] = []
                opens = []
                for box in range(MAILBOXES):
                    owner, until_s = SigningKey(seed("box", number, box)), int(time.time()) + 3600
                    address = key_id(owner.public)
                    path = f"/v1/mailboxes/{address.hex()}"
                    opens.append(world.envelope(owner, path, Terms(until_s, False).encode()))
                    messages = []
                    for message in range(MESSAGES):
                        writer = SigningKey(seed("writer", box, message // 2))
                        put = Put(give_leave(owner, key_id(writer.public), until_s), os.urandom(SEALED_BYTES))
                        messages.append(world.envelope(writer, path + "/messages", put.encode()))
                    puts.append(messages)
                blaster = Blaster(port, MAILBOXES)
                blaster.run([[[opened] for opened in opens]])
                batches = [[[puts[box][step]] for box in range(MAILBOXES)] for step in range(MESSAGES)]
                took = blaster.run(batches)
                blaster.close()
                blaster = Blaster(bare, MAILBOXES)
                least = blaster.run(batches)
                blaster.close()
                ratios.append(least / took)
                rates.append(MAILBOXES * MESSAGES / took)
    shown = f"{100 * middle(ratios):.0f} % ({middle(rates):,.0f}/s)"
    return "durable mailbox puts against bare POSTs", shown, "≥ 30 %"


def blind_signing() -> tuple[str, str, str]:
    """Our blinded, checked signature against the two modular powers that it cannot do without."""
    from peewit_node.machine import LocalMachine

    key = asyncio.run(LocalMachine().token_key(2048))
    public, message = key.public, seed("H")
    ratios = []
    for _ in range(ROUNDS):
        blinded = [public.blind(message, os.urandom(48), os.urandom(256)) for _ in range(SIGNATURES)]
        start = time.perf_counter()
        for item in blinded:
            key.blind_sign(item.data, os.urandom(256))
        ours = time.perf_counter() - start
        numbers = [int.from_bytes(item.data, "big") for item in blinded]
        p, q = (gmpy2.mpz(int.from_bytes(prime, "big")) for prime in key.primes())
        d = gmpy2.invert(65537, (p - 1) * (q - 1))
        dp, dq = d % (p - 1), d % (q - 1)
        start = time.perf_counter()
        for number in numbers:
            gmpy2.powmod_sec(number % p, dp, p)
            gmpy2.powmod_sec(number % q, dq, q)
        ratios.append(ours / (time.perf_counter() - start))
    return "blind signing against the bare RSA operation", f"{middle(ratios):.2f} times", "≤ 2"


async def draw_times() -> tuple[str, str, str]:
    """Drawing from a thousand and from a million that wait."""
    found = []
    for waiting in WAITING:
        with tempfile.TemporaryDirectory() as name:
            federation = Federation.make(Path(name), ("north",), quorum=1)
            await federation.start("north")
            node = federation.nodes["north"]
            await federation.stop()
            with closing(sqlite3.connect(Path(name) / "north" / DATABASE)) as database, database:
                rows = (
                    (
                        b"area",
                        seed(n),
                        n % 3,
                        100 + n % 5,
                        seed("p", n),
                        1,
                        bytes(300),
                        0,
                        0,
                        0,
                        b"",
                        0,
                        n,
                        0,
                        0,
                        b"",
                        0,
                    )
                    for n in range(waiting)
                )
                marks = ", ".join("?" * 17)
                database.executemany(f"INSERT INTO requests VALUES ({marks})", rows)
            await federation.start("north")
            node = federation.nodes["north"]
            times = []
            for number in range(60):
                start = time.perf_counter()
                drawn = await node.queues.draw(b"area", seed("practice", number), 5)
                times.append(time.perf_counter() - start)
                assert len(drawn) == 5
            await federation.stop()
            found.append(middle(times[10:]))
    shown = f"{found[1] / found[0]:.2f} times ({1000 * found[1]:.1f} ms)"
    return "drawing five from 1,000,000 waiting against from 1,000", shown, "≤ 2"


async def _country(folder: Path) -> tuple[Federation, list[str]]:
    from examples.demo.cluster import POSTCODES

    from peewit_federation.places import Places

    federation = Federation.make(folder, ("north",), quorum=1, gossip=Gossip())
    await federation.start()
    node = federation.nodes["north"]
    members: dict[str, list[str]] = {}
    for place in Places.parse(POSTCODES.read_text(encoding="utf-8")).by_postcode.values():
        members.setdefault(f"{place.state}/{place.district}", []).append(place.postcode)
    mediators = {name: TestMediator(name) for name in members}
    await node.own.append(*(
        mediators[name].admission(*sorted({code[:1] for code in postcodes})).encode()
        for name, postcodes in members.items()
    ))  # fmt: skip
    await federation.agree(60)
    for name, postcodes in members.items():
        mediator = mediators[name]
        area = catchment("area", *sorted(postcodes))
        device = Device(mediator, SigningKey(seed(name)), [area.encode(), provider(name, area).encode()])
        await node.carrier.accept(mediator.device(device.key))
        async with asyncio.timeout(30):
            while (await device.publish(federation.url("north")))[0] != 200:
                await asyncio.sleep(0.02)
    await federation.agree(60)
    await federation.stop()
    return federation, sorted(code for codes in members.values() for code in codes)


def catchment_queries() -> tuple[str, str, str]:
    """Areas for a postcode, among all of a country."""
    with tempfile.TemporaryDirectory() as name:
        federation, postcodes = asyncio.run(_country(Path(name)))
        listen = federation.configs["north"].listen
        with node_process(Path(name) / "north" / "node.toml", listen):
            rates = []
            for number in range(ROUNDS):
                asked = postcodes[number::ROUNDS][: 4 * 100]
                requests = [get_request(f"/v1/catchments?postcode={code}") for code in asked]
                blaster = Blaster(int(listen.rpartition(":")[2]), 4)
                rates.append(len(requests) / blaster.run(_spread(requests, 4)))
                blaster.close()
    what = f"queries for a postcode among {len(postcodes):,} of 398 mediators"
    return what, f"{middle(rates):,.0f}/s, each with proofs", "≥ 50/s"


def run() -> list[tuple[str, str, str]]:
    return [*queue_rates(), mailboxes(), blind_signing(), asyncio.run(draw_times()), catchment_queries()]
