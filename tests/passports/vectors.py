"""The official test vectors of the EU Digital COVID Certificate, stage by stage.

They are not part of this project: they are read from the folder that `PEEWIT_DCC` names, or from `shared/data/dcc`
beside the repository. What of a vector contradicts the specification, or itself, stands in `EXCEPTIONS` with its reason.
"""

from __future__ import annotations

import base64
import io
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from peewit_federation.errors import PeewitError
from peewit_federation.passports import base45, dcc, hc1, loose_cbor
from peewit_federation.passports.signed import Signed
from peewit_federation.passports.signer import Signer, read_signer

HERE = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("PEEWIT_DCC", HERE.parent / "shared" / "data" / "dcc"))
EXCEPTIONS = {
    ("common/B1", "EXPECTEDPICTUREDECODE"): "the vector has no picture",
    (
        "common/CO20",
        "EXPECTEDVERIFY",
    ): "the algorithm stands only where the signature does not cover it (RFC 9052, 3.1)",
}


@dataclass(frozen=True)
class Vector:
    """One vector."""

    name: str
    fields: dict[str, Any]

    @property
    def expected(self) -> dict[str, bool]:
        found: dict[str, bool] = self.fields["EXPECTEDRESULTS"]
        return {flag: value for flag, value in found.items() if value is not None}

    @property
    def clock_s(self) -> float:
        context = self.fields["TESTCTX"]
        text = context.get("VALIDATIONCLOCK") or context.get("validationClockInstant")
        return datetime.fromisoformat(text).timestamp()

    def signer(self) -> Signer:
        return read_signer(base64.b64decode(self.fields["TESTCTX"]["CERTIFICATE"]))

    # One question for each flag. Who asks for a stage gets the stages before it from the vector's own text.

    def holds(self, flag: str) -> bool:
        """Whether a stage succeeds."""
        try:
            return bool(getattr(self, flag.removeprefix("EXPECTED").lower())())
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
        return bool(found == self.fields.get("COMPRESSED", found))

    def compression(self) -> bool:
        found = hc1.unpack(self.fields["PREFIX"]).hex()
        return bool(found == self.fields.get("COSE", found))

    def signed(self) -> Signed:
        return Signed.parse(hc1.unpack(self.fields["PREFIX"]))

    def verify(self) -> bool:
        signed, signer = self.signed(), self.signer()
        return signed.kid == signer.kid and signed.verifies(signer.key)

    def decode(self) -> bool:
        content = dcc.read_claims(self.signed().payload).content
        return "JSON" not in self.fields or content == self.fields["JSON"]

    def validjson(self) -> bool:
        return self.decode()

    def certificate(self) -> dcc.Certificate:
        return dcc.read_certificate(dcc.read_claims(self.signed().payload).content)

    def schemavalidation(self) -> bool:
        return bool(self.certificate())

    def validobject(self) -> bool:
        return bool(self.certificate())

    def keyusage(self) -> bool:
        return self.signer().may_sign(self.certificate().kind)

    def expirationcheck(self) -> bool:
        claims = dcc.read_claims(self.signed().payload)
        return claims.issued_s <= self.clock_s <= claims.expires_s

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
            found.append(Vector(f"{path.relative_to(FOLDER / 'vectors').parts[0]}/{path.stem}", fields))
    return found
