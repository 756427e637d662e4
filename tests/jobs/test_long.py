"""Downloads of more rows than one call may bring: never held whole, and the same files."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from held import assert_alike

from copper_cli.jobs.dump import DumpRequest, dump_days
from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.records import Series
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.series import clip_series
from copper_cli.work import fetch_rows
from copper_cli.work.context import Context, Output
from copper_cli.work.meter_series import SeriesRequest

FEW_ROWS = 100
"""What one call may bring here: four days of hours are 97 rows."""
NOW = datetime(2022, 4, 20, 12, 30, tzinfo=UTC)
SPRING = SeriesRequest("usage", date(2022, 3, 1), date(2022, 4, 1), "hour", baseline=True)
"""31 days over a clock change: eight calls of four whole days and less."""


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(premises=2, quota=None, max_age=0, now=NOW)) as found:
        yield found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on a call brings few rows."""

    def cut() -> None:
        monkeypatch.setattr(fetch_rows, "MAX_ROWS", FEW_ROWS)

    return cut


@contextmanager
def growing_cloud(premises: int) -> Iterator[tuple[Sandbox, Any]]:
    """A cloud in the middle of SPRING, and its clock: whoever sets `now_s` lets it grow."""
    clock = SimpleNamespace(now_s=datetime(2022, 3, 20, 12, 30, tzinfo=UTC).timestamp())
    clock.now, clock.sleep = lambda: clock.now_s, time.sleep
    config = SandboxConfig(premises=premises, quota=None, max_age=0)
    with Sandbox(config, clock=lambda: datetime.fromtimestamp(clock.now_s, UTC)) as cloud:
        yield cloud, clock


@pytest.mark.parametrize("layout", ["rows", "columns", "plain"])
@pytest.mark.parametrize("step", [None, 3])
def test_many_calls_give_the_file_of_one(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    short: Callable[[], None],
    tmp_path: Path,
    layout: Any,
    step: int | None,
) -> None:
    """In every layout, with its baseline beside it, row by row."""
    request = replace(SPRING, layout=layout, baseline=layout != "plain", step_days=step)
    download_series(
        make_context(cloud, apart=True), replace(request, step_days=None), Output(tmp_path / "one")
    )
    short()
    calls = cloud.calls
    table = download_series(make_context(cloud, jobs=4), request, Output(tmp_path / "many"))
    kinds = 1 if layout == "plain" else 2
    assert cloud.calls - calls == 2 + len(table.rows) * kinds * (11 if step else 8)
    assert_alike(tmp_path / "many", tmp_path / "one")


def test_rows_to_come_are_added_to_a_long_file(
    cloud: Sandbox, make_context: Callable[..., Context], short: Callable[[], None], tmp_path: Path
) -> None:
    """What is held is not asked for again."""
    short()
    with growing_cloud(premises=2) as (growing, early):
        first = download_series(
            make_context(growing, clock=early), SPRING, Output(tmp_path / "grown")
        )
        assert first.facts["to_come"] > 200
        early.now_s = NOW.timestamp()
        asked = len(growing.log)
        second = download_series(
            make_context(growing, clock=early), SPRING, Output(tmp_path / "grown")
        )
        assert second.facts["to_come"] == 0
        starts = [r.query for r in list(growing.log)[asked:] if "start=" in r.query]
        assert starts
        assert all("start=2022-03-2" in s or "start=2022-03-3" in s for s in starts)
    download_series(make_context(cloud, apart=True), SPRING, Output(tmp_path / "once"))
    assert_alike(tmp_path / "grown", tmp_path / "once")


def test_a_long_dump_is_cut_into_the_same_days(
    cloud: Sandbox, make_context: Callable[..., Context], short: Callable[[], None], tmp_path: Path
) -> None:
    """Each day from the calls that hold it, over their seams."""
    request = DumpRequest("d", date(2022, 3, 9), date(2022, 3, 20), "hour", None, "rows")
    dump_days(make_context(cloud, apart=True), request, Output(tmp_path / "one"))
    short()
    dump_days(make_context(cloud), request, Output(tmp_path / "many"))
    assert_alike(tmp_path / "many", tmp_path / "one")


def test_no_answer_is_held_while_the_next_is_asked(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    short: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came lies in the archive by then, where a kill cannot reach it."""
    short()
    context = make_context(cloud)
    ask, held, landed = context.client.fetch_series, [], []

    def watch(*question: Any, **how: Any) -> Series:
        alive = [one for one in gc.get_objects() if type(one) is Series and len(one.times_s) > 9]
        held.append(len(alive))
        landed.append(context.archive.unpublished())
        return ask(*question, **how)

    monkeypatch.setattr(context.client, "fetch_series", watch)
    gc.collect()
    meter = next(iter(cloud.fleet.meters())).id
    request = replace(SPRING, meter_ids=(meter,))
    download_series(context, request, Output(tmp_path / "o"))
    assert held == [0] * 16
    assert landed[0] == 0
    assert all(later > before for before, later in pairwise(landed))


def test_a_failed_meter_keeps_what_it_was_answered(
    cloud: Sandbox, make_context: Callable[..., Context], short: Callable[[], None], tmp_path: Path
) -> None:
    """The fourth of eight calls is refused: the next run asks for five, as --dry-run says, and
    the file is that of a run without a fault."""
    short()
    meter = next(iter(cloud.fleet.meters())).id
    request = replace(SPRING, meter_ids=(meter,), baseline=False)
    cloud.faults.add(Fault.parse("status=418,path=/usage,skip=3,times=1"))
    first = download_series(make_context(cloud), request, Output(tmp_path / "o"))
    assert len(first.facts["failed"]) == 1
    facts = estimate_series(make_context(cloud), request, Output(tmp_path / "o")).facts
    assert (facts["calls"], facts["kept"], facts["to_ask"]) == (8, 3, 5)
    calls = cloud.calls
    download_series(make_context(cloud), request, Output(tmp_path / "o"))
    assert cloud.calls - calls == 2 + 5
    download_series(make_context(cloud, apart=True), request, Output(tmp_path / "whole"))
    name = f"{meter.replace(':', '_')}.usage.csv"
    assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


LIMITS = {"cap_rows": 60}, {"cap_rows": 60, "quirks": frozenset({"capped-sum"})}


@pytest.mark.parametrize("limit", LIMITS)
def test_the_answers_of_a_cloud_that_cuts_are_kept_too(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, limit: dict[str, Any]
) -> None:
    """744 hours by 59: 13 calls, of which the ninth fails. The eighth answer waits for what the
    ninth would have told of it; the seven before are not asked for again."""
    meter = next(iter(cloud.fleet.meters())).id
    request = replace(SPRING, meter_ids=(meter,), baseline=False)
    download_series(make_context(cloud, apart=True), request, Output(tmp_path / "whole"))
    with Sandbox(SandboxConfig(premises=2, quota=None, max_age=0, now=NOW, **limit)) as strict:
        strict.faults.add(Fault.parse("status=418,path=/usage,skip=8,times=1"))
        first = download_series(make_context(strict), request, Output(tmp_path / "o"))
        assert len(first.facts["failed"]) == 1
        calls = strict.calls
        second = download_series(make_context(strict), request, Output(tmp_path / "o"))
        assert second.facts["failed"] == []
        assert strict.calls - calls == 2 + 13 - 7
    assert_alike(tmp_path / "o", tmp_path / "whole")


def test_an_answer_that_ends_early_is_not_taken_for_all(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """A cloud that leaves out what is to come: the rows it brought fill their part of the range
    only, and the rest is asked for when it is there."""
    with growing_cloud(premises=1) as (cloud, clock):
        meter = next(iter(cloud.fleet.meters())).id
        request = replace(
            SPRING, start=date(2022, 3, 18), end=date(2022, 3, 24), meter_ids=(meter,)
        )

        def connect(*, apart: bool = False) -> Context:
            context = make_context(cloud, clock=clock, apart=apart)
            ask = context.client.fetch_series

            def shorter(*question: Any, **how: Any) -> Series:
                found = ask(*question, **how)
                known = sum(time_s <= clock.now_s for time_s in found.times_s)
                return clip_series(found, 0, found.times_s[known - 1])

            context.client.fetch_series = shorter  # type: ignore[method-assign]
            return context

        cloud.faults.add(Fault.parse("status=418,path=baseline-series,times=1"))
        assert download_series(connect(), request, Output(tmp_path / "o")).facts["failed"]
        clock.now_s = NOW.timestamp()
        assert not download_series(connect(), request, Output(tmp_path / "o")).facts["failed"]
        download_series(connect(apart=True), request, Output(tmp_path / "whole"))
    assert_alike(tmp_path / "o", tmp_path / "whole")
