"""A mediator's folder: who it is, its offline root, and its devices.

    folder/mediator.json           id and root key (public)
    folder/root.key                to be kept offline; only `device` and `close` need it
    folder/devices/<name>/         one folder per device, on whichever machine it is used

Rules kept here: what is public stands in `mediator.json`; the root key is needed only to make and to close devices; a
device is vouched for by the root when it is made.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from peewit_clients.device_state import DeviceState
from peewit_clients.secret_file import read_secret, write_secret
from peewit_clients.whole_file import replace_whole
from peewit_federation.errors import MalformedError, OperatorError
from peewit_federation.keys import SigningKey, key_id
from peewit_federation.sealed import xwing_public
from peewit_federation.statements.carried import Device, sign_device

FACTS: Final = "mediator.json"
DEVICE_NAME = r"[a-z0-9][a-z0-9-]{0,63}"


@dataclass(frozen=True)
class Identity:
    """A mediator's public facts."""

    id: bytes
    root: bytes
    two_persons: bool = False
    "Whether it takes the yes of two devices to admit a practice, or to vouch for its key."

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises `OperatorError`."""
        path = folder / FACTS
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            two = fields.get("two_persons", False) is True
            return cls(bytes.fromhex(fields["id"]), bytes.fromhex(fields["root"]), two)
        except FileNotFoundError:
            raise OperatorError(f"{folder} holds no mediator; make one with `peewit mediator init`") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise OperatorError(f"{path} is damaged: {error}") from None

    def save(self, folder: Path) -> None:
        """Write them down."""
        fields = {"id": self.id.hex(), "root": self.root.hex(), "two_persons": self.two_persons}
        replace_whole(folder / FACTS, (json.dumps(fields, indent=2) + "\n").encode(), 0o644)


def init_mediator(folder: Path, seed: bytes, passphrase: str | None, *, two_persons: bool = False) -> Identity:
    """Make a mediator's folder with a new root key; goes on with one that was cut short. Raises `OperatorError`."""
    if (folder / FACTS).exists():
        raise OperatorError(f"{folder} holds a mediator already; choose another folder with --folder")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "root.key"
    if path.exists():
        seed = read_secret(path, passphrase)
    else:
        write_secret(path, seed, passphrase)
    root = SigningKey(seed).public
    identity = Identity(key_id(root), root, two_persons)
    identity.save(folder)
    return identity


def add_device(
    folder: Path, name: str, root: SigningKey, seeds: tuple[bytes, bytes], passphrase: str | None = None
) -> Path:
    """Make a device (`seeds`: log key, encryption key), vouched for by the root; its folder."""
    if not re.fullmatch(DEVICE_NAME, name, re.ASCII):
        raise MalformedError(f"{name!r} is not a device's name: small letters, digits and hyphens, at most 64")
    identity = Identity.load(folder)
    log = SigningKey(seeds[0])
    statement = sign_device(Device(identity.id, root.public, log.public, xwing_public(seeds[1])), root, log)
    path = folder / "devices" / name
    DeviceState.create(path, seeds[0], seeds[1], statement, passphrase).close()
    return path


def root_key(path: Path, passphrase: str | None) -> SigningKey:
    """The root key from its file."""
    return SigningKey(read_secret(path, passphrase))
