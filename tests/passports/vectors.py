"""The official test vectors of the EU Digital COVID Certificate, stage by stage.

They are not part of this project: they are read from the folder that `PEEWIT_DCC` names, or from `shared/data/dcc`
beside the repository. What of a vector contradicts the specification, or itself, stands in `EXCEPTIONS` with its reason.
"""

from __future__ import annotations

import base64
import io
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peewit_federation.errors import MalformedError, PeewitError
from peewit_federation.passports import base45, dcc, hc1, loose_cbor
from peewit_federation.passports.signed import Signed
from peewit_federation.passports.signer import Signer, read_signer
from peewit_federation.passports.verdict import Reason, time_fault

HERE = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("PEEWIT_DCC", HERE.parent / "shared" / "data" / "dcc"))
PL = ("1.0.0", "1.2.1", "1.3.0")
NL_EMPTY_COUNTRY = (
    "005 011 018 020 045 057 059 060 073 120 123 144 153 162 163 165 169 178 186 189 192 201 216 217 226 240 245 252 "
    "257 258 264"
)
NL_ODD_NAMES = "064 065 066 067 068 069 136 137 138 140 208 209 210 211 212 213 281 282 283 285"
SCHEMA, VERIFY = "EXPECTEDSCHEMAVALIDATION", "EXPECTEDVERIFY"
CONTENT = ("EXPECTEDDECODE", "EXPECTEDVALIDJSON")
REASONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "the algorithm stands only where the signature does not cover it (RFC 9052, section 3.1)",
        (VERIFY,), ("common/CO20",),
    ),
    ("ES256 is for P-256 (hcert specification, 3.3.2), and this key is not on it", (VERIFY,), ("ES/401", "ES/402", "ES/403")),
    ("its JSON is that of another certificate", CONTENT, ("FR/test_pcr_ok", "PL/1.3.0/1", "PL/1.3.0/5")),
    ("a certificate may name no uses (hcert specification, A.4), and then has all", ("EXPECTEDKEYUSAGE",), ("IS/3",)),
    ("the test centre is longer than any version of the schema allows", (SCHEMA,), ("HU/3",)),
    ("the schema has a pattern for countries, and this fits it", (SCHEMA,), tuple(f"PL/{v}/8" for v in PL)),
    (
        "the schema has no list of makers, and lists of values grow after verifiers were made",
        (SCHEMA,), tuple(f"PL/{v}/{n}" for v in PL for n in (7, 9)),
    ),
    ("the schema wants a country of one letter or more", (SCHEMA,), tuple(f"NL/{n}" for n in NL_EMPTY_COUNTRY.split())),
    ("the schema wants a dose and a series of one or more", (SCHEMA,), tuple(f"NL/{n}" for n in ("104", "109", "121", "130"))),
    ("the schema allows any letters in a name, and an empty transliteration", (SCHEMA,), tuple(f"NL/{n}" for n in NL_ODD_NAMES.split())),
)  # fmt: skip
EXCEPTIONS = {(name, flag): why for why, flags, names in REASONS for name in names for flag in flags}


@dataclass(frozen=True)
class Vector:
    """One vector."""

    name: str
    fields: dict[str, Any]

    @property
    def expected(self) -> dict[str, bool]:
        found: dict[str, bool] = self.fields["EXPECTEDRESULTS"]
        known = {flag: value for flag, value in found.items() if value is not None and hasattr(self, _stage(flag))}
        if "2DCODE" not in self.fields:
            known.pop("EXPECTEDPICTUREDECODE", None)  # there is no picture
        return known

    @property
    def clock_s(self) -> float:
        context = self.fields["TESTCTX"]
        text = context.get("VALIDATIONCLOCK") or context.get("validationClockInstant")
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def signer(self) -> Signer:
        text = self.fields["TESTCTX"].get("CERTIFICATE")
        if not text:
            raise MalformedError("a vector without a certificate")
        return read_signer(base64.b64decode(text))

    # One question for each flag. Who asks for a stage gets the stages before it from the vector's own text.

    def holds(self, flag: str) -> bool:
        """Whether a stage succeeds."""
        try:
            return bool(getattr(self, _stage(flag))())
        except PeewitError:
            return False

    def picturedecode(self) -> bool:
        import zxingcpp
        from PIL import Image

        try:
            image = Image.open(io.BytesIO(base64.b64decode(self.fields["2DCODE"])))
        except OSError:
            return False
        found = zxingcpp.read_barcodes(
            image.convert("L"), formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
        )
        return [code.text for code in found] == [self.fields["PREFIX"]]

    def unprefix(self) -> bool:
        text = hc1.unprefix(self.fields["PREFIX"])
        return bool(text == self.fields.get("BASE45", text))

    def b45decode(self) -> bool:
        found = base45.decode(hc1.unprefix(self.fields["PREFIX"])).hex()
        return found == self._hex("COMPRESSED", found)

    def compression(self) -> bool:
        found = hc1.unpack(self.fields["PREFIX"]).hex()
        return found == self._hex("COSE", found)

    def _hex(self, field: str, found: str) -> str:
        """What a vector gives in hexadecimal, which some write in capitals; what was found if it gives nothing."""
        return str(self.fields.get(field) or found).lower()

    def signed(self) -> Signed:
        return Signed.parse(hc1.unpack(self.fields["PREFIX"]))

    def verify(self) -> bool:
        signed, signer = self.signed(), self.signer()
        return signed.kid == signer.kid and signed.verifies(signer.key)

    def decode(self) -> bool:
        content = dcc.read_claims(self.signed().payload).content
        return "JSON" not in self.fields or _moments(content) == _moments(self.fields["JSON"])

    def validjson(self) -> bool:
        return self.decode()

    def certificate(self) -> dcc.Certificate:
        claims = dcc.read_claims(self.signed().payload)
        return dcc.read_certificate(claims.content, claims.issued_s)

    def schemavalidation(self) -> bool:
        return bool(self.certificate())

    def validobject(self) -> bool:
        """It can be parsed, whatever a schema says."""
        return isinstance(dcc.read_claims(self.signed().payload).content, dict)

    def keyusage(self) -> bool:
        content = dcc.read_claims(self.signed().payload).content
        kinds = [kind for kind in dcc.KINDS if isinstance(content, dict) and content.get(kind)]
        return all(self.signer().may_sign(kind) for kind in kinds)

    def expirationcheck(self) -> bool:
        claims = dcc.read_claims(self.signed().payload)
        return time_fault(claims.issued_s, claims.expires_s, self.clock_s) is Reason.NONE

    def encode(self) -> bool:
        """What is written can be read: the content, packed anew, is the content."""
        import cbor2

        content = dcc.read_claims(self.signed().payload).content
        return bool(loose_cbor.decode(cbor2.dumps(content), 1 << 16) == content)


def vectors() -> list[Vector]:
    """All that are there."""
    found = []
    for path in sorted((FOLDER / "vectors").rglob("*.json")):
        fields = json.loads(path.read_text(encoding="utf-8"))
        if "EXPECTEDRESULTS" in fields:
            parts = path.relative_to(FOLDER / "vectors").with_suffix("").parts
            name = "/".join(part for part in parts if part not in ("2DCode", "raw"))
            # Those of NL have a number, and then what they are about.
            found.append(Vector(name.partition("-")[0] if name.startswith("NL/") else name, fields))
    return found


def _moments(content: Any) -> Any:
    """The same, with times as moments: some vectors write `Z` where their code has `+00:00`."""
    if isinstance(content, dict):
        return {key: _moments(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_moments(value) for value in content]
    if isinstance(content, str) and "T" in content[10:11]:
        with suppress(ValueError):
            return datetime.fromisoformat(content)
    return content


def _stage(flag: str) -> str:
    return flag.removeprefix("EXPECTED").lower()
