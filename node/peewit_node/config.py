"""What an operator can set: `node.toml`, and environment variables over it.

    PEEWIT_NODE_LISTEN=127.0.0.1:9000   PEEWIT_NODE_GOSSIP__INTERVAL_S=5

Rules kept here: unknown keys are refused; an error names the file, the key and the reason; plain HTTP is
only allowed on loopback.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from peewit_federation.errors import OperatorError

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Tls(BaseModel):
    """A certificate of our own. Without it, the node listens on loopback, behind a proxy."""

    model_config = ConfigDict(extra="forbid")
    certificate: Path
    key: Path


class Gossip(BaseModel):
    """How eagerly the node talks to its peers."""

    model_config = ConfigDict(extra="forbid")
    interval_s: Seconds = 1.0
    "Between two ticks, each an exchange with a random peer."
    timeout_s: Seconds = 10.0
    "For one request to a peer."
    backoff_max_s: Seconds = 60.0
    "The longest pause between two tries to fetch a log."
    hint_peers: Annotated[int, Field(ge=0, le=64)] = 3
    "How many random peers are told of news at once."
    view_interval_s: Seconds = 60.0
    "At most one view is signed in this time."
    head_pause_s: Seconds = 10.0
    "How long the node's own log waits for a quorum before its next head."
    private_peers: bool = False
    "Whether peers' names may lead to private addresses."
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    "Logs that are mirrored at once."
    proxy: str | None = None
    "An HTTP proxy for all outbound requests."


CHECKERS_MAX: Final = 4
"Unless an operator asks for more."


def other_cores() -> int:
    """How many cores this process may use besides the one that it is busy with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores - 1, CHECKERS_MAX)


class Limits(BaseModel):
    """What is refused beyond."""

    model_config = ConfigDict(extra="forbid")
    operator_entries: Annotated[int, Field(ge=1)] = 10_000_000
    "Entries that are mirrored of one operator's log."
    request_timeout_s: Seconds = 30.0
    "For reading a request's head and body."
    connections: Annotated[int, Field(ge=1)] = 2_000
    mailboxes: Annotated[int, Field(ge=0)] = 1_000_000
    "That are kept here."
    database_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 30
    "Beyond it no messages are taken."
    letters: Annotated[int, Field(ge=0)] = 500
    "That wait for one mediator."
    journal_bytes: Annotated[int, Field(ge=0)] = 256 << 20
    "Of one practice's journal."


class Admission(BaseModel):
    """Whom the node admits to the draw, if the charter has one."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["codes", "work", "open"] = "codes"
    "Signup codes, a proof of work, or anybody at a rate."
    groups: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+){0,5}$", max_length=64)], ...] = ()
    "Groups besides everybody, such as over80."
    work_bits: Annotated[int, Field(ge=0, le=24)] = 20
    "Leading zero bits of a proof of work."
    per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    "How many are admitted in a minute, if it is open."
    token_bits: Literal[2048, 3072, 4096] = 2048


ENVIRONMENT: Final = "PEEWIT_NODE_"


class NodeConfig(BaseSettings):
    """One node."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT, env_nested_delimiter="__", extra="forbid")
    operator: str
    "Which operator of the charter this node is."
    charter: Path
    data: Path
    "A directory for the keys and the database."
    listen: str = "127.0.0.1:8100"
    places: Path | None = None
    "A table of postcodes with coordinates, for searching by distance."
    checkers: Annotated[int, Field(ge=0, le=64)] = Field(default_factory=other_cores)
    "Processes that check signatures and proofs, so that the node uses more than one core; none: it does so itself."
    tls: Tls | None = None
    gossip: Gossip = Gossip()
    limits: Limits = Limits()
    admission: Admission = Admission()

    @classmethod
    def settings_customise_sources(  # the names are those of the base class
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes over the file."""
        return env_settings, init_settings

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _plain_http_only_on_loopback(self) -> Self:
        host, _, port = self.listen.rpartition(":")
        if not port.isdigit() or not 0 <= int(port) < 65_536:
            raise ValueError("listen: must be HOST:PORT, for example 127.0.0.1:8100")
        try:
            loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            raise ValueError(f"listen: {host!r} is not an IP address") from None
        if self.tls is None and not loopback:
            raise ValueError(
                "listen: plain HTTP is only allowed on loopback; set [tls], or listen on 127.0.0.1 behind a proxy"
            )
        return self


def load_config(path: Path) -> NodeConfig:
    """Read `node.toml`. Relative paths in it are relative to it. Raises `OperatorError`."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OperatorError(f"{path}: no such file; make one with `peewit node init`") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OperatorError(f"{path}: {error}") from None
    for name in os.environ:
        if name.startswith(ENVIRONMENT) and _key(name)[0] not in NodeConfig.model_fields:
            raise OperatorError(f"the environment: {name} is no setting; settings are those of node.toml")
    try:
        config = NodeConfig(**table)
    except SettingsError as error:
        raise OperatorError(f"the environment: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        for name in os.environ:
            if name.startswith(ENVIRONMENT) and _key(name) == place:
                raise OperatorError(f"the environment: {name}: {reason}") from None
        raise OperatorError(f"{path}: {'.'.join(place) + ': ' if place else ''}{reason}") from None
    base = path.parent
    resolved = {"charter": base / config.charter, "data": base / config.data}
    if config.places:
        resolved["places"] = base / config.places
    if config.tls:
        config.tls = Tls(certificate=base / config.tls.certificate, key=base / config.tls.key)
    return config.model_copy(update=resolved)


def _key(name: str) -> tuple[str, ...]:
    """The setting that a variable of the environment is about."""
    return tuple(name.removeprefix(ENVIRONMENT).lower().split("__"))
