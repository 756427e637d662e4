"""Downloads of more rows than one call may bring: never held whole, and the same files."""

from __future__ import annotations

import csv
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
from zoneinfo import ZoneInfo

import pytest

from copper_cli.errors import QuotaSpentError
from copper_cli.folders.draft import draft_path
from copper_cli.jobs.dump import DumpRequest, dump_days
from copper_cli.jobs.interval import download_series, estimate_series, plan_downloads
from copper_cli.records import Series
from copper_cli.render import reread
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.series import clip_series
from copper_cli.work import fetch_rows
from copper_cli.work.context import Context, Output
from copper_cli.work.meter_series import Planned, SeriesRequest, open_draft

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
    """From now on a call brings few rows, and files are read back in small pieces."""

    def cut() -> None:
        monkeypatch.setattr(fetch_rows, "MAX_ROWS", FEW_ROWS)
        monkeypatch.setattr(reread, "_PIECE_ROWS", 60)

    return cut


@contextmanager
def growing_cloud(premises: int) -> Iterator[tuple[Sandbox, Any]]:
    """A cloud in the middle of SPRING, and its clock: whoever sets `now_s` lets it grow."""
    clock = SimpleNamespace(now_s=datetime(2022, 3, 20, 12, 30, tzinfo=UTC).timestamp())
    clock.now, clock.sleep = lambda: clock.now_s, time.sleep
    config = SandboxConfig(premises=premises, quota=None, max_age=0)
    with Sandbox(config, clock=lambda: datetime.fromtimestamp(clock.now_s, UTC)) as cloud:
        yield cloud, clock


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


SUMS = {"sum_energy", "usage_summary__sum_usage", "baseline_summary__sum_energy"}


def assert_alike(found: Path, expected: Path) -> None:
    """The same files with the same rows; sums that were added up differ in the last digits."""
    names = sorted(str(p.relative_to(expected)) for p in expected.rglob("*.csv"))
    assert sorted(str(p.relative_to(found)) for p in found.rglob("*.csv")) == names
    assert names
    for name in names:
        head, *theirs = cells(expected / name)
        may_differ = {at for at, column in enumerate(head) if column in SUMS}
        for at, column in enumerate(head):
            if name.endswith("meter_summary.csv") and column == "Sum Usage":
                may_differ.add(at)
        for ours, row in zip(cells(found / name)[1:], theirs, strict=True):
            for at, (a, b) in enumerate(zip(ours, row, strict=True)):
                assert a == b or (
                    at in may_differ and float(a) == pytest.approx(float(b), abs=2e-3)
                )


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
    """In every layout, with its baseline beside it, row by row; and no draft is left."""
    request = replace(SPRING, layout=layout, baseline=layout != "plain", step_days=step)
    download_series(make_context(cloud), replace(request, step_days=None), Output(tmp_path / "one"))
    short()
    calls = cloud.calls
    table = download_series(make_context(cloud, jobs=4), request, Output(tmp_path / "many"))
    kinds = 1 if layout == "plain" else 2
    assert cloud.calls - calls == 2 + len(table.rows) * kinds * (11 if step else 8)
    assert_alike(tmp_path / "many", tmp_path / "one")
    assert not list((tmp_path / "many").glob(".*.draft"))


def test_rows_to_come_are_added_to_a_long_file(
    cloud: Sandbox, make_context: Callable[..., Context], short: Callable[[], None], tmp_path: Path
) -> None:
    """What the file holds is read back in pieces and not asked for again."""
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
    download_series(make_context(cloud), SPRING, Output(tmp_path / "once"))
    assert_alike(tmp_path / "grown", tmp_path / "once")


def test_a_long_dump_is_cut_into_the_same_days(
    cloud: Sandbox, make_context: Callable[..., Context], short: Callable[[], None], tmp_path: Path
) -> None:
    """Each day from the calls that hold it, over their seams."""
    request = DumpRequest("d", date(2022, 3, 9), date(2022, 3, 20), "hour", None, "rows")
    dump_days(make_context(cloud), request, Output(tmp_path / "one"))
    short()
    dump_days(make_context(cloud), request, Output(tmp_path / "many"))
    assert_alike(tmp_path / "many", tmp_path / "one")
    assert not list((tmp_path / "many").rglob(".*.draft"))


def test_no_answer_is_held_while_the_next_is_asked(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    short: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came lies in the draft by then, where a kill cannot reach it."""
    short()
    context = make_context(cloud)
    ask, held, drafts = context.client.fetch_series, [], []

    def watch(*question: Any, **how: Any) -> Series:
        alive = [one for one in gc.get_objects() if type(one) is Series and len(one.times_s) > 9]
        held.append(len(alive))
        drafts.append(sum(path.stat().st_size for path in (tmp_path / "o").glob(".*.draft")))
        return ask(*question, **how)

    monkeypatch.setattr(context.client, "fetch_series", watch)
    gc.collect()
    meter = next(iter(cloud.fleet.meters())).id
    request = replace(SPRING, meter_ids=(meter,))
    download_series(context, request, Output(tmp_path / "o"))
    assert held == [0] * 16
    assert drafts[0] == 0
    assert all(later > before for before, later in pairwise(drafts))


def test_a_draft_that_outlived_its_file_goes(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path
) -> None:
    """A run was killed between the file and the draft: the next one clears up, and leaves the
    draft of a meter alone that it was not asked for."""
    download_series(make_context(cloud), SPRING, Output(tmp_path))
    name = next(tmp_path.glob("*.usage.csv")).name
    (tmp_path / f".{name}.draft").write_text("null\n")
    (tmp_path / ".other.usage.csv.draft").write_text("null\n")
    download_series(make_context(cloud), SPRING, Output(tmp_path))
    assert [path.name for path in tmp_path.glob(".*.draft")] == [".other.usage.csv.draft"]


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
    download_series(make_context(cloud), request, Output(tmp_path / "whole"))
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
    download_series(make_context(cloud), request, Output(tmp_path / "whole"))
    with Sandbox(SandboxConfig(premises=2, quota=None, max_age=0, now=NOW, **limit)) as strict:
        strict.faults.add(Fault.parse("status=418,path=/usage,skip=8,times=1"))
        first = download_series(make_context(strict), request, Output(tmp_path / "o"))
        assert len(first.facts["failed"]) == 1
        calls = strict.calls
        second = download_series(make_context(strict), request, Output(tmp_path / "o"))
        assert second.facts["failed"] == []
        assert strict.calls - calls == 2 + 13 - 7
    assert_alike(tmp_path / "o", tmp_path / "whole")


@pytest.mark.parametrize("granularity", ["hour", "day"])
@pytest.mark.parametrize("other", ["zone", "enterprise", "range"])
def test_a_draft_answers_only_the_question_it_was_made_for(
    cloud: Sandbox,
    make_context: Callable[..., Context],
    short: Callable[[], None],
    tmp_path: Path,
    other: str,
    granularity: str,
) -> None:
    """Not another zone's days, another partner's meters or another range's windows."""
    if granularity == "hour":
        short()
    meter = next(iter(cloud.fleet.meters())).id
    failing = replace(SPRING, meter_ids=(meter,), granularity=granularity)
    cloud.faults.add(Fault.parse("status=418,path=-series,times=1"))
    assert download_series(make_context(cloud), failing, Output(tmp_path / "o")).facts["failed"]
    assert list((tmp_path / "o").glob(".*.draft"))
    request, changes = failing, {}
    if other == "zone":
        request = replace(failing, zone=ZoneInfo("America/Phoenix"))
    elif other == "range":
        request = replace(failing, start=date(2022, 2, 20))
    else:
        changes = {"enterprise_id": "another"}
    with Sandbox(
        SandboxConfig(premises=2, quota=None, max_age=0, now=NOW, seed=1, **changes)
    ) as asked:
        calls = asked.calls
        download_series(make_context(asked), request, Output(tmp_path / "whole"))
        whole = asked.calls - calls
        download_series(make_context(asked), request, Output(tmp_path / "o", overwrite=True))
        assert asked.calls - calls == 2 * whole
    name = next((tmp_path / "whole").glob("*.csv")).name
    assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


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

        def connect() -> Context:
            context = make_context(cloud, clock=clock)
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
        download_series(connect(), request, Output(tmp_path / "whole"))
    assert_alike(tmp_path / "o", tmp_path / "whole")


def test_a_draft_does_not_grow_with_every_vain_run(
    make_context: Callable[..., Context], short: Callable[[], None], tmp_path: Path
) -> None:
    """Night after night the quota is spent when a file is to be gone on with."""

    def refuse(*question: Any, **how: Any) -> Series:
        raise QuotaSpentError("no call is free", resume_at_utc=NOW)

    short()
    with growing_cloud(premises=1) as (cloud, clock):
        meter = next(iter(cloud.fleet.meters())).id
        request = replace(SPRING, meter_ids=(meter,), baseline=False)
        download_series(make_context(cloud, clock=clock), request, Output(tmp_path))
        sizes = []
        for _ in range(3):
            clock.now_s += 86400
            context = make_context(cloud, clock=clock)
            context.client.fetch_series = refuse  # type: ignore[method-assign]
            with pytest.raises(QuotaSpentError):
                download_series(context, request, Output(tmp_path))
            sizes.append(sum(path.stat().st_size for path in tmp_path.glob(".*.draft")))
    assert sizes[0] > 0
    assert sizes == [sizes[0]] * 3


CHANGES: dict[str, Any] = {
    "api_url": "https://other.example",
    "enterprise_id": "other",
    "zone": ZoneInfo("America/Phoenix"),
    "start": date(2022, 2, 28),
    "end": date(2022, 4, 2),
    "granularity": "day",
    "kind": "average-series",
    "step_days": 2,
}


@pytest.mark.parametrize("field", [None, *CHANGES])
def test_whose_a_draft_is(
    cloud: Sandbox, make_context: Callable[..., Context], tmp_path: Path, field: str | None
) -> None:
    """Host, partner, zone, range and granularity: with one of them changed it is another's."""
    context = make_context(cloud)
    (planned, *_), _ = plan_downloads(context, SPRING)
    assert isinstance(planned, Planned)
    draft = open_draft(context, tmp_path, SPRING, planned, recheck=False)
    draft.add("usage", 0, 1, Series([0, 1], [1, 1], [1, 1], [1, 1], [1, 1], 1))
    draft.save()
    request, other = SPRING, planned
    if field in ("api_url", "enterprise_id"):
        context.session.settings = replace(context.session.settings, **{field: CHANGES[field]})
    elif field == "zone":
        other = replace(planned, zone=CHANGES[field])
    elif field is not None:
        request = replace(SPRING, **{field: CHANGES[field]})
    path = next(tmp_path.glob(".*.draft"))
    path.rename(draft_path(tmp_path, request.file_name(planned.meter.id)))
    found = open_draft(context, tmp_path, request, other, recheck=False).find("usage", 0)
    assert (found is None) == (field is not None)
