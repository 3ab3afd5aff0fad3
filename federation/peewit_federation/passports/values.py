"""The codes of vaccines (EU value sets vaccines-covid-19-names, -auth-holders and sct-vaccines-covid-19).

Rules kept here: what we issue has a code, a maker and a kind of vaccine that belong together; what others issued is
shown by its name if we know it, and by its code if not: a new vaccine makes no passport false.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peewit_federation.errors import UnknownError

COVID_19: Final = "840539006"
"SNOMED CT, of the disease."
MRNA, VECTOR, WHOLE, PROTEIN, ANY = (
    "1119349007", "29061000087103", "1157024006", "1162643001", "28531000087107",
)  # fmt: skip
"SNOMED CT, of the kinds of vaccine; the last is what the encoding instructions want for those without a kind."


@dataclass(frozen=True)
class Product:
    """A vaccine."""

    code: str
    name: str
    maker: str
    maker_name: str
    kind: str


PRODUCTS: Final = (
    Product("EU/1/20/1528", "Comirnaty", "ORG-100030215", "Biontech Manufacturing GmbH", MRNA),
    Product("EU/1/20/1507", "Spikevax", "ORG-100031184", "Moderna Biotech Spain S.L.", MRNA),
    Product("EU/1/21/1529", "Vaxzevria", "ORG-100001699", "AstraZeneca AB", VECTOR),
    Product("EU/1/20/1525", "Jcovden", "ORG-100001417", "Janssen-Cilag International", VECTOR),
    Product("EU/1/21/1618", "Nuvaxovid", "ORG-100032020", "Novavax CZ a.s.", PROTEIN),
    Product("EU/1/21/1624", "COVID-19 Vaccine Valneva", "ORG-100036422", "Valneva France", ANY),
    Product("EU/1/21/1580", "VidPrevtyn Beta", "ORG-100000788", "Sanofi Pasteur", ANY),
    Product("EU/1/22/1709", "Bimervax", "ORG-100036914", "Hipra Human Health S.L.", ANY),
    Product("CoronaVac", "CoronaVac", "Sinovac-Biotech", "Sinovac Biotech", WHOLE),
    Product("BBIBP-CorV", "BBIBP-CorV", "ORG-100020693", "China Sinopharm International Corp.", WHOLE),
    Product("Covaxin", "Covaxin", "Bharat-Biotech", "Bharat Biotech", WHOLE),
    Product("Covishield", "Covishield", "ORG-100001981", "Serum Institute Of India", VECTOR),
    Product("Covovax", "Covovax", "ORG-100001981", "Serum Institute Of India", PROTEIN),
    Product("Sputnik-V", "Sputnik V", "Gamaleya-Research-Institute", "Gamaleya Research Institute", VECTOR),
)
_BY_CODE: Final = {product.code: product for product in PRODUCTS}


def product(name: str) -> Product:
    """A vaccine by its code or name, as somebody types it. Raises `UnknownError` with the names that are known."""
    wanted = name.casefold().strip()
    for found in PRODUCTS:
        if wanted in (found.code.casefold(), found.name.casefold()):
            return found
    raise UnknownError(f"{name[:40]!r} is no vaccine that is known here: {', '.join(p.name for p in PRODUCTS)}")


def product_name(code: str) -> str:
    """For people: the name behind a code, or the code."""
    return _BY_CODE[code].name if code in _BY_CODE else code
