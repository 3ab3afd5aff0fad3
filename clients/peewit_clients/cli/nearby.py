"""`--within 20km --places TABLE`: postcodes around one, found in a table on this device."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from peewit_clients.cli.common import read_text
from peewit_clients.words import said
from peewit_federation.errors import MalformedError, OperatorError, UnknownError
from peewit_federation.places import Places

KM_MAX: Final = 500
within_option = click.option(
    "--within", default="0km", show_default=True, help="How far you would travel, for example 20km."
)
places_option = click.option(
    "--places", type=click.Path(path_type=Path), help="A table of postcodes with coordinates, for --within."
)


def near(postcode: str, within: str, places: Path | None) -> dict[str, float]:
    """Postcodes and how far away they are, in km. Raises `MalformedError`, `OperatorError` or `UnknownError`."""
    try:
        distance = float(within.removesuffix("km"))
    except ValueError:
        distance = -1.0
    if not 0 <= distance <= KM_MAX:
        raise MalformedError(said("error_within", count=KM_MAX))
    if distance == 0:
        return {postcode: 0.0}
    if places is None:
        raise OperatorError("--within needs --places, a table of postcodes with coordinates")
    found = Places.parse(read_text(places)).within(postcode, distance)
    if not found:
        raise UnknownError(f"postcode {postcode} is not in {places}")
    return dict(found)
