"""Laws of putting answers together, over answers that nobody would think of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from held import fetch_series, new_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from copper_cli.buckets import BUCKET_S
from copper_cli.cloud.parse import parse_series
from copper_cli.cloud.spans import SpanBook
from copper_cli.errors import BadRequestError
from copper_cli.plan import SeriesPlan, plan_series
from copper_cli.records import Series, Window
from copper_cli.series import join_windows, merge_series
from copper_cli.work.context import Context, Silent

START_S = 1_604_188_800  # 2020-11-01, the end of summer time in Denver
HOUR_S = 3600
BUCKETS = 40

laws = settings(max_examples=80, deadline=None, derandomize=True)


def register(time_s: int) -> float:
    """A register that moves by another amount every bucket, to four places."""
    minutes = time_s // 60
    return round(minutes * 0.0137 + (minutes * 7919 % 1000) / 100_000, 4)


@lru_cache(maxsize=100_000)
def true_row(time_s: int, step_s: int = HOUR_S) -> dict[str, Any]:
    """The row that the cloud has for the bucket that ends at an instant."""
    usage = round(register(time_s) - register(time_s - step_s), 4)
    value = register(time_s)
    return {
        "time": datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z"),
        "usage": usage,
        "power": round(usage / (step_s / 3600), 4),
        "value": value,
        "actual": int(value * 100),
    }


def columns_of(series: Series) -> list[list[Any]]:
    return [
        list(column)
        for column in (series.times_s, series.energy, series.power, series.value, series.actual)
    ]


def true_columns(times: Any, unknown: set[int], step_s: int = HOUR_S) -> list[list[Any]]:
    rows = [true_row(time_s, step_s) for time_s in times]
    found: list[list[Any]] = [list(times)]
    for name in ("usage", "power", "value", "actual"):
        found.append(
            [None if t in unknown else row[name] for t, row in zip(times, rows, strict=True)]
        )
    return found


@dataclass
class Said:
    """One answer of a cloud: which buckets, which of them not filled, in which order."""

    first: int
    last: int
    unknown: set[int]
    order: list[int] = field(repr=False)

    def series(self) -> Series:
        rows = []
        for bucket in self.order:
            row = true_row(START_S + bucket * HOUR_S)
            if bucket in self.unknown:
                row = {name: row[name] if name == "time" else None for name in row}
            rows.append(row)
        body = {"meter_id": "07:1", "meter_type": "power", "sum_usage": 1.0, "results": rows}
        return parse_series(body, "usage", "usage")


@st.composite
def said(draw: st.DrawFn) -> Said:
    first = draw(st.integers(0, BUCKETS))
    last = draw(st.integers(first, BUCKETS))
    buckets = list(range(first, last + 1))
    unknown = draw(st.sets(st.sampled_from(buckets)))
    # Any order, and some rows twice.
    order = draw(st.permutations(buckets + draw(st.lists(st.sampled_from(buckets), max_size=3))))
    return Said(first, last, unknown, order)


@laws
@given(answers=st.lists(said(), min_size=1, max_size=6))
def test_overlapping_answers_merge_into_the_truth(answers: list[Said]) -> None:
    """Whatever windows overlap, in whatever order rows and answers come: each instant once,
    ascending, with its values if any answer had them."""
    merged = merge_series([answer.series() for answer in answers])
    seen = {bucket for answer in answers for bucket in answer.order}
    known = {bucket for answer in answers for bucket in set(answer.order) - answer.unknown}
    times = [START_S + bucket * HOUR_S for bucket in sorted(seen)]
    unknown = {START_S + bucket * HOUR_S for bucket in seen - known}
    assert columns_of(merged) == true_columns(times, unknown)


@laws
@given(data=st.data())
def test_windows_join_into_the_plan(data: st.DataObject) -> None:
    """One answer a window, each perhaps with rows beyond it: the rows from the plan's start to
    its end, each once; a row at a seam is known if either side knows it. The sum is the sum of
    the windows' own."""
    edges = sorted(data.draw(st.sets(st.integers(2, BUCKETS - 2), min_size=2, max_size=6)))
    answers, known, total = [], set(), 0.0
    for first, last in pairwise(edges):
        wide = (data.draw(st.integers(0, first)), data.draw(st.integers(last, BUCKETS)))
        buckets = list(range(wide[0], wide[1] + 1))
        unknown = data.draw(st.sets(st.sampled_from(buckets)))
        answer = Said(*wide, unknown, data.draw(st.permutations(buckets))).series()
        answers.append(answer)
        total += answer.sum_energy or 0.0
        known |= {bucket for bucket in range(first, last + 1) if bucket not in unknown}
    at = [datetime.fromtimestamp(START_S + edge * HOUR_S, UTC) for edge in edges]
    windows = tuple(Window(a, b) for a, b in pairwise(at))
    start_s, end_s = (START_S + edge * HOUR_S for edge in (edges[0], edges[-1]))
    plan = SeriesPlan(windows, (), "hour", start_s, end_s)
    joined = join_windows(plan, answers)
    times = range(start_s, end_s + 1, HOUR_S)
    unknown = set(times) - {START_S + bucket * HOUR_S for bucket in known}
    assert columns_of(joined) == true_columns(times, unknown)
    assert joined.sum_energy == pytest.approx(total)


@dataclass
class Stingy:
    """A client of a cloud that refuses long windows and cuts long answers."""

    longest_s: int
    cap: int
    sum_of_rows: bool
    now_s: int
    calls: int = 0

    def fetch_series(
        self, meter_id: str, kind: str, window: Window, granularity: str, *, anew: bool = False
    ) -> Series:
        self.calls += 1
        step_s = BUCKET_S[granularity]
        start_s, end_s = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        if end_s - start_s > self.longest_s:
            raise BadRequestError("too long")
        times = list(range(start_s, end_s + 1, step_s))[: self.cap]
        columns = true_columns(times, {t for t in times if t > self.now_s}, step_s)
        until_s = min(times[-1] if self.sum_of_rows else end_s, self.now_s)
        total = register(max(until_s, start_s)) - register(start_s)
        return Series(*columns, total, "power")


@laws
@given(
    granularity=st.sampled_from(["hour", "fifteenminute", "minute"]),
    zone=st.sampled_from(["UTC", "America/Denver", "Asia/Kathmandu"]),
    days=st.integers(1, 6),
    parts=st.floats(0.5, 30),
    cuts=st.floats(0.5, 30),
    sum_of_rows=st.booleans(),
    ended=st.booleans(),
)
def test_any_limit_gives_the_series_of_no_limit(
    granularity: str,
    zone: str,
    days: int,
    parts: float,
    cuts: float,
    sum_of_rows: bool,
    ended: bool,
) -> None:
    """Whatever a call may ask for, and wherever answers are cut: the rows and the sum of a cloud
    without limit, over two meters, so that what the first taught is used for the second."""
    step_s = BUCKET_S[granularity]
    plan = plan_series(date(2020, 10, 31), date(2020, 11, days), ZoneInfo(zone), granularity)
    steps = (plan.end_s - plan.start_s) / step_s
    now_s = plan.end_s + 86400 if ended else plan.start_s + int(steps / 2) * step_s
    longest, cap = max(1, int(steps / parts)), max(2, int(steps / cuts))
    client = Stingy(longest * step_s, cap, sum_of_rows, now_s)
    context = Context(
        client=cast(Any, client),
        session=cast(Any, None),
        spans=SpanBook(None, lambda: float(now_s)),
        now=lambda: float(now_s),
        sleep=lambda seconds: None,
        progress=Silent(),
        archive=new_archive(),
    )
    times = range(plan.start_s, plan.end_s + 1, step_s)
    truth = true_columns([time_s for time_s in times if time_s <= now_s], set(), step_s)
    used = register(min(plan.end_s, now_s)) - register(plan.start_s)
    fewest = ceil(steps / min(longest, cap - 1))
    for meter in ("first", "second"):
        before = client.calls
        series = fetch_series(context, meter, "usage", plan)
        # Buckets to come need not be asked for; those that came say nothing.
        filled = sum(1 for time_s in series.times_s if time_s <= now_s)
        assert [column[:filled] for column in columns_of(series)] == truth
        assert all(energy is None for energy in series.energy[filled:])
        assert series.sum_energy == pytest.approx(used, abs=1e-6)
        assert client.calls - before <= 2.5 * fewest + 24
