"""Dates as people write them, with the same date in ISO 8601: pairs to learn from, made at will."""

from __future__ import annotations

import datetime
from typing import TypeAlias

import numpy as np

from tinygrad_ai.errors import ValueRangeError, whole_number

Pairs: TypeAlias = tuple[list[str], list[str]]

MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

# Numbers alone stand in the order day, month, year; two digits are a year from 1950 to 2049. So
# every spelling has one reading.
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
SPELLINGS = (
    "{day} {month} {year}",
    "{day} {mon} {year}",
    "{day} {mon} {yy}",
    "{day}-{mon}-{year}",
    "{month} {day}, {year}",
    "{mon} {day}, {year}",
    "{mon} {day} '{yy}",
    "{month} {nth}, {year}",
    "the {nth} of {month}, {year}",
    "{weekday}, {month} {nth}, {year}",
    "{weekday} the {nth} of {month} {year}",
    "{wd} {day} {mon} {year}",
    "{dd}/{mm}/{yy}",
    "{day}/{m}/{year}",
    "{dd}.{mm}.{year}",
    "{year} {month} {day}",
)


def spell(date: datetime.date, spelling: str) -> str:
    """``date`` in one of ``SPELLINGS``.

    >>> spell(datetime.date(1998, 3, 3), "{weekday}, {month} {nth}, {year}")
    'Tuesday, March 3rd, 1998'
    """
    month, weekday = MONTHS[date.month - 1], WEEKDAYS[date.weekday()]
    teen = 11 <= date.day <= 13
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    return spelling.format(
        day=date.day,
        dd=f"{date.day:02}",
        nth=f"{date.day}{ending}",
        m=date.month,
        mm=f"{date.month:02}",
        mon=month[:3],
        month=month,
        year=date.year,
        yy=f"{date.year % 100:02}",
        wd=weekday[:3],
        weekday=weekday,
    )


def pairs(*counts: int, seed: int = 0) -> list[Pairs]:
    """One pair of lists ``(spellings, iso)`` for each of ``counts``, of so many dates.

    Every date, from 1950 to 2049, occurs once in all lists together, in a spelling chosen at
    random: what is learned from the first list is tested on dates that are not in it. The same for
    the same ``seed``. Raises ValueRangeError for more than the 36,525 dates that there are, and for
    a count or ``seed`` below 0.

    >>> (train, test) = pairs(2, 1)
    >>> len(train[0]), test[1][0][4]
    (2, '-')
    """
    for count in counts:
        whole_number("pairs", "a count", count, least=0)
    random = np.random.Generator(np.random.PCG64(whole_number("pairs", "seed", seed, least=0)))
    span = (LAST - FIRST).days + 1
    if sum(counts) > span:
        raise ValueRangeError(f"pairs: there are {span:,} dates, not {sum(counts):,}")
    drawn = random.permutation(span)[: sum(counts)].tolist()
    styles = random.integers(len(SPELLINGS), size=sum(counts)).tolist()
    days = [FIRST + datetime.timedelta(days) for days in drawn]
    spelled = [spell(day, SPELLINGS[style]) for day, style in zip(days, styles, strict=True)]
    iso = [day.isoformat() for day in days]
    ends = np.cumsum(counts).tolist()
    return [(spelled[a:b], iso[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
