"""Postcodes on the map: which lie within how many kilometres.

    postcode,place,district,state_code,state,latitude,longitude
    10115,Berlin Mitte,Berlin,BE,Berlin,52.5337,13.3872

Rules kept here: a table is refused with the number of its first bad line. Distances are great-circle
distances between the postcodes' centres on a sphere of 6,371 km.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt
from typing import Final

from peewit_federation.errors import MalformedError

EARTH_KM: Final = 6371.0
COLUMNS: Final = ("postcode", "place", "district", "state_code", "state", "latitude", "longitude")


@dataclass(frozen=True)
class Place:
    """A postcode with its names and the position of its centre in degrees."""

    postcode: str
    name: str
    district: str
    state: str
    latitude: float
    longitude: float

    def distance_km(self, other: Place) -> float:
        """Great-circle distance (haversine formula)."""
        lat1, lat2 = radians(self.latitude), radians(other.latitude)
        half = sin((lat2 - lat1) / 2) ** 2
        half += cos(lat1) * cos(lat2) * sin(radians(other.longitude - self.longitude) / 2) ** 2
        return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


class Places:
    """All places by postcode."""

    def __init__(self, places: Iterator[Place] | list[Place]) -> None:
        self.by_postcode = {place.postcode: place for place in places}

    @classmethod
    def parse(cls, text: str) -> Places:
        """Parse the table. Raises `MalformedError` naming the line."""
        reader = csv.reader(text.splitlines())
        try:
            if tuple(next(reader, ())) != COLUMNS:
                raise MalformedError(f"line 1: the columns are {','.join(COLUMNS)}")
            return cls([_place(number, row) for number, row in enumerate(reader, start=2)])
        except csv.Error as error:
            raise MalformedError(f"after line {reader.line_num}: {error}") from None

    def within(self, postcode: str, distance_km: float) -> dict[str, float]:
        """Postcodes within a distance of one, nearest first, with the distance in kilometres."""
        centre = self.by_postcode.get(postcode)
        if centre is None:
            return {}
        found = {p.postcode: centre.distance_km(p) for p in self.by_postcode.values()}
        near = {code: km for code, km in found.items() if km <= distance_km}
        return dict(sorted(near.items(), key=lambda item: (item[1], item[0])))


def _place(number: int, row: list[str]) -> Place:
    if len(row) != len(COLUMNS):
        raise MalformedError(f"line {number}: {len(row)} columns where {len(COLUMNS)} are due")
    postcode, name, district, _, state, latitude, longitude = row
    if not re.fullmatch(r"[0-9]{4,5}", postcode, re.ASCII):
        raise MalformedError(f"line {number}: {postcode[:20]!r} is not a postcode")
    try:
        lat, lon = float(latitude), float(longitude)
    except ValueError:
        raise MalformedError(f"line {number}: latitude or longitude is not a number") from None
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise MalformedError(f"line {number}: latitude or longitude is out of range")
    return Place(postcode, name, district, state, lat, lon)
