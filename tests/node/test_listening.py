"""What comes over the wire: too slow, too large, over TLS, or to a port that is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from peewit_federation.errors import OperatorError
from peewit_node.node import Node
from peewit_node.peers import CheckedResolver, PeerError, check_address
from tests.certificates import certify
from tests.federation_kit import Federation
from tests.federation_kit_http import get


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "::ffff:169.254.169.254", "224.0.0.1", "0.0.0.0", "::", "fe80::1", "64:ff9b::a9fe:a9fe",
     "2002:a9fe:a9fe::1", "10.0.0.1", "127.0.0.1", "192.168.1.1", "fc00::1", "100.64.0.1"],
)  # fmt: skip
def test_requests_do_not_go_to_metadata_services_or_into_our_own_network(address: str) -> None:
    with pytest.raises(PeerError):
        check_address(address, private=False)
    check_address("9.9.9.9", private=False)


async def test_a_proxy_may_have_a_name_that_leads_into_our_own_network() -> None:
    checked = CheckedResolver(aiohttp.ThreadedResolver(), private=False, own="localhost")
    assert (await checked.resolve("localhost", 3128))[0]["host"] == "127.0.0.1"
    strict = CheckedResolver(aiohttp.ThreadedResolver(), private=False, own="proxy.example")
    with pytest.raises(PeerError, match="private address"):
        await strict.resolve("localhost", 80)


async def test_a_port_that_is_taken_is_an_error_in_words(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    await federation.start("north")
    taken = federation.configs["west"].model_copy(update={"listen": federation.configs["north"].listen})
    with pytest.raises(OperatorError, match="cannot listen"):
        await Node.start(taken)
    await federation.stop()


async def raw(federation: Federation, data: bytes, wait_s: float) -> bytes:
    host, port = federation.configs["north"].address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    try:
        async with asyncio.timeout(wait_s):
            return await reader.read(10_000)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_request_whose_head_or_body_never_ends_is_cut_off(tmp_path: Path) -> None:
    federation = Federation.make(tmp_path)
    limits = federation.configs["north"].limits.model_copy(update={"request_timeout_s": 0.5, "connections": 8})
    federation.configs["north"] = federation.configs["north"].model_copy(update={"limits": limits})
    await federation.start("north")
    assert await raw(federation, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", 10) == b""
    assert await raw(federation, b"", 10) == b""
    answer = await raw(federation, b"POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", 10)
    assert b" 408 " in answer
    host, port = federation.configs["north"].address
    idle = [await asyncio.open_connection(host, port) for _ in range(12)]
    async with asyncio.timeout(10):
        cut = await asyncio.gather(*(r.read(1) for r, _ in idle), return_exceptions=True)
    assert all(end == b"" or isinstance(end, ConnectionResetError) for end in cut)
    for _, writer in idle:
        writer.close()
    await asyncio.sleep(0.1)
    status, _ = await get(federation.url("north") + "/healthz")
    assert status == 200
    await federation.stop()


async def test_compressed_oversized_and_unknown_requests_get_problem_details(federation: Federation) -> None:

    async with aiohttp.ClientSession() as session:
        url = federation.url("north")
        async with session.get(url + "/nowhere") as response:
            assert response.status == 404
            assert response.content_type == "application/problem+json"
        async with session.post(url + "/v1/statements", data=b"x" * 70_000) as response:
            assert response.status == 413
        async with session.put(url + "/v1/statements", data=b"x") as response:
            assert response.status == 405
        for path in ("/v1/catchments?postcode=Berlin", "/v1/revocations?after=-1", "/v1/views?mediator=zz",
                     "/v1/subjects/provider/00", "/v1/catchments?postcode=10115&within_km=9999", "/log/ZZ/checkpoint"):  # fmt: skip
            async with session.get(url + path) as response:
                assert response.status == 400, path
                assert (await response.json(content_type=None))["title"]


async def test_a_node_serves_https_with_its_own_certificate(tmp_path: Path) -> None:
    import ssl

    from peewit_node.config import Tls

    federation = Federation.make(tmp_path, ("north",), quorum=1)
    certificate, key = certify(tmp_path, ["127.0.0.1"])
    config = federation.configs["north"].model_copy(update={"tls": Tls(certificate=certificate, key=key)})
    federation.configs["north"] = config
    await federation.start()
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"https://{config.listen}/healthz", ssl=trusting) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://{config.listen}/healthz")
    await federation.stop()
    missing = config.model_copy(update={"tls": Tls(certificate=tmp_path / "none.pem", key=key)})
    with pytest.raises(OperatorError, match=r"tls: .*none\.pem"):
        await Node.start(missing)
