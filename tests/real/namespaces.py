"""Hosts of our own on one machine: network namespaces on a bridge, whose links nftables cuts.

Rules kept here: everything that is made has a name of this process and is removed at the end; nothing outside of
these namespaces is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from peewit_clients.charters import Card, compose_charter
from peewit_node.setup import init_node
from tests.certificates import certify
from tests.federation_kit import seed

NODES = ("north", "west", "south", "east")
PEEWIT = (sys.executable, "-m", "peewit_clients.cli")
SETTINGS = "interval_s = 0.3\ntimeout_s = 3.0\nbackoff_max_s = 2.0\nprivate_peers = true\nview_interval_s = 1.0\n"


def why_not() -> str:
    """Why namespaces cannot be used here; empty if they can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "nft"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    probe = f"pwprobe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "network namespaces cannot be made"
    run("ip", "netns", "delete", probe)
    return ""


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=120)


class Lab:
    """Four nodes and a client, each in a namespace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = f"pw{os.getpid() % 100_000}"
        self.hosts = (*NODES, "desk")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            **os.environ,
            "SSL_CERT_FILE": str(folder / "ca.pem"),
            "PEEWIT_CHARTER": str(folder / "charter.toml"),
        }

    def space(self, host: str) -> str:
        return f"{self.id}-{host}"

    def link(self, host: str) -> str:
        return f"{self.id}{self.hosts.index(host)}"

    def address(self, host: str) -> str:
        return f"10.77.0.{self.hosts.index(host) + 1}"

    def __enter__(self) -> Self:
        switch = self.space("sw")
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for host in self.hosts:
            space, link = self.space(host), self.link(host)
            run("ip", "netns", "add", space)
            run("ip", "link", "add", link, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "-n", switch, "link", "set", link, "master", "br0", "up")
            run("ip", "-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", "eth0", "up")
        self._found()
        for name in NODES:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.kill(name)
        for host in (*self.hosts, "sw"):
            run("ip", "netns", "delete", self.space(host), check=False)

    def _found(self) -> None:
        certificate, key = certify(self.folder, [self.address(name) for name in NODES])
        cards = []
        for number, name in enumerate(NODES):
            listen = f"{self.address(name)}:8443"
            seeds = tuple(seed(name, part) for part in range(3))
            made = init_node(
                self.folder / name,
                name,
                f"https://{listen}",
                "127.0.0.1:8443",
                (str(number + 1),),
                "../charter.toml",
                seeds,
            )
            cards.append(Card.parse(made.encode()))
            config = self.folder / name / "node.toml"
            tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n\n[gossip]\n{SETTINGS}'
            config.write_text(config.read_text().replace("[gossip]\n", tls))
        (self.folder / "charter.toml").write_text(compose_charter("laboratory", cards, 3))

    # Nodes

    def start(self, name: str) -> None:
        command = (
            "ip",
            "netns",
            "exec",
            self.space(name),
            *PEEWIT,
            "node",
            "run",
            str(self.folder / name / "node.toml"),
        )
        log = (self.folder / f"{name}.log").open("ab")
        env = {**self.env, "PEEWIT_NODE_LISTEN": f"{self.address(name)}:8443"}
        self.processes[name] = subprocess.Popen(command, env=env, stderr=log)
        log.close()
        wait(lambda: self.status(name) is not None, f"{name} does not start: {self.folder / name}.log")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def status(self, name: str) -> dict[str, Any] | None:
        found = run(*PEEWIT, "node", "status", str(self.folder / name / "node.toml"), "--json", check=False)
        status: dict[str, Any] | None = json.loads(found.stdout) if found.returncode == 0 else None
        return status

    def digests(self) -> set[str]:
        return {str((self.status(name) or {}).get("digest")) for name in self.processes}

    # The network

    def cut(self, source: Iterable[str], target: Iterable[str]) -> None:
        """Nothing gets from `source` to `target`."""
        switch = self.space("sw")
        run("ip", "netns", "exec", switch, "nft", "add table bridge cut")
        run("ip", "netns", "exec", switch, "nft", "add chain bridge cut f { type filter hook forward priority 0; }")
        for one in source:
            for other in target:
                rule = f'add rule bridge cut f iifname "{self.link(one)}" oifname "{self.link(other)}" drop'
                run("ip", "netns", "exec", switch, "nft", rule)

    def heal(self) -> None:
        run("ip", "netns", "exec", self.space("sw"), "nft", "delete table bridge cut")

    # The district

    def peewit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command on the client's host."""
        command = ("ip", "netns", "exec", self.space("desk"), *PEEWIT, *words)
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=120, cwd=self.folder, check=False
        )


def wait(holds: Any, what: str, timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.2)
