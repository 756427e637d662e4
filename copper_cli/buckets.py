"""The buckets that interval rows come in: how long each is. Ground: imports nothing of ours."""

from __future__ import annotations

GRANULARITIES = ("minute", "fifteenminute", "hour", "bihour", "day", "month")
BUCKET_S = {"minute": 60, "fifteenminute": 900, "hour": 3600, "bihour": 7200, "day": 86400}
"""Seconds of a bucket; a month has no one length."""
DAY_S = 86400
MONTH_S = 30 * DAY_S
"""A month's length where only its order of size matters."""
MEAN_MONTH_S = 365.2425 * DAY_S / 12
"""A month's length on average over the years."""


def bucket_s(granularity: str) -> int:
    """The nominal length of a bucket in seconds."""
    return BUCKET_S.get(granularity, MONTH_S)


def count_buckets(span_s: float, granularity: str) -> int:
    """How many buckets a span between two of their boundaries holds.

    Rounded so that an odd bucket counts as one: an hour more or less in a day or a bihour at a
    clock change, months of 28 to 31 days.
    """
    step = BUCKET_S.get(granularity)
    if step is None:
        return max(0, round(span_s / MEAN_MONTH_S))
    return max(0, int((span_s + step / 4) // step))
