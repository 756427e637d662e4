"""Meters whose time zone nobody knows: they fail and are named, and all others are done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from copper_cli.cloud.client import CloudClient
from copper_cli.config import Limit
from copper_cli.errors import CredentialsError, QuotaSpentError, UnreachableError
from copper_cli.jobs.dump import DumpRequest, dump_days, estimate_dump
from copper_cli.jobs.interval import download_series, estimate_series
from copper_cli.jobs.monthly import estimate_monthly, report_monthly
from copper_cli.jobs.readings import ReadingsRequest, download_readings, estimate_readings
from copper_cli.jobs.reversals import check_water_reversals, estimate_water_reversals
from copper_cli.records import Meter, Premise
from copper_cli.sandbox import Fault, Sandbox, SandboxConfig
from copper_cli.work.context import Context, Output
from copper_cli.work.meter_series import SeriesRequest

NOW = datetime(2022, 3, 28, 18, 0, tzinfo=UTC)
START, END = date(2022, 3, 1), date(2022, 3, 2)
USAGE = SeriesRequest("usage", START, END, "hour")
READINGS = ReadingsRequest(START, END)
DUMP = DumpRequest("foo", START, END, "hour", None, "rows")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("copper_cli.cloud.transport.backoff_s", lambda *a, **k: 0.0)


@pytest.fixture
def cloud() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(quota=None, now=NOW, premises=6)) as found:
        yield found


class Told:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, noun: str, total: int, phase: str = "") -> None:
        """Nothing is shown."""

    def advance(self) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        self.said.append(text)


class MuteClient(CloudClient):
    """Of some premises the list does not say the zone, of some meters not the premise; locations
    may say anything."""

    mute: set[str]
    lost: set[str]
    locations: dict[str, str | None]

    def fetch_premises(self, *, with_users: bool = False) -> list[Premise]:
        found = super().fetch_premises(with_users=with_users)
        return [replace(p, timezone=None) if p.id in self.mute else p for p in found]

    def fetch_meters(
        self, *, with_history: bool = True, premise_id: str | None = None
    ) -> list[Meter]:
        found = super().fetch_meters(with_history=with_history, premise_id=premise_id)
        return [replace(m, premise_id=None) if m.id in self.lost else m for m in found]

    def fetch_timezone(self, meter_id: str) -> str | None:
        found = super().fetch_timezone(meter_id)
        return self.locations.get(meter_id, found)


Mute = Callable[..., Context]


@pytest.fixture
def mute(cloud: Sandbox, make_context: Callable[..., Context]) -> Mute:
    """`mute(*premises, lost=[...], locations={meter: zone})`: a context on such a cloud."""

    def make(
        *premises: str,
        lost: Sequence[str] = (),
        locations: dict[str, str | None] | None = None,
        **settings: Any,
    ) -> Context:
        context = make_context(cloud, **settings)
        client = MuteClient(context.session, cloud.config.enterprise_id)
        client.mute, client.lost, client.locations = set(premises), set(lost), locations or {}
        return replace(context, client=client)

    return make


def located(cloud: Sandbox) -> list[str]:
    """The meters whose location was asked for, each try."""
    paths = [one.path for one in cloud.log if one.path.endswith("/location")]
    return [path.split("/")[-2].replace("%3A", ":") for path in paths]


def one_of(cloud: Sandbox) -> Any:
    """A meter in the middle of the list."""
    return list(cloud.fleet.meters())[4]


def homes_of(cloud: Sandbox) -> list[str]:
    """The premises that have meters."""
    return sorted({meter.premise_id for meter in cloud.fleet.meters()})


def crowd(cloud: Sandbox) -> list[Any]:
    """The meters of the premise that has the most."""
    fleet = cloud.fleet
    homes = ([m for m in fleet.meters() if m.premise_id == p.id] for p in fleet.premises())
    return max(homes, key=len)


BREAK: dict[str, tuple[str, bool]] = {
    "403": ("has no permission", True),
    "404": ("does not know it any more", True),
    "500": ("answered 500", False),
    "null": ("the cloud knows no time zone of meter", True),
    "unknown": ("'Mars/Base', is not known here", True),
}


def report_with_sums(context: Context) -> Any:
    return report_monthly(context, date(2022, 2, 1), include_per_meter_sum=True)


def break_zone(cloud: Sandbox, how: str, meter_ids: list[str]) -> dict[str, str | None]:
    """Has their location fail in some way; what the mute client is to be told."""
    if how in ("403", "404", "500"):
        for meter_id in meter_ids:
            path = f"{meter_id.replace(':', '(:|%3A)')}/location"
            cloud.faults.add(Fault(path=path, status=int(how), times=None))
        return {}
    return dict.fromkeys(meter_ids, None if how == "null" else "Mars/Base")


@pytest.mark.parametrize("ask", [report_with_sums, check_water_reversals])
def test_a_cloud_that_is_gone_is_no_missing_zone(
    cloud: Sandbox, mute: Mute, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Context], Any]
) -> None:
    """Gone after the lists: it ends with that, not with each meter failed."""
    context = mute(*(premise.id for premise in cloud.fleet.premises()))
    asked = context.client.fetch_timezone

    def gone(meter_id: str) -> str | None:
        cloud.stop()
        return asked(meter_id)

    monkeypatch.setattr(context.client, "fetch_timezone", gone)
    with pytest.raises(UnreachableError):
        ask(context)


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("how", BREAK)
def test_one_meter_without_a_zone_stops_no_other(
    cloud: Sandbox, mute: Mute, tmp_path: Path, how: str, jobs: int
) -> None:
    """It is `failed` with its reason and what to do, in the facts and in the manifest; with the
    zone back, the same command asks for that meter alone."""
    meter = one_of(cloud)
    wrong = break_zone(cloud, how, [meter.id])
    context = mute(lost=[meter.id], locations=wrong, jobs=jobs)
    table = download_series(context, USAGE, Output(tmp_path / "o"))
    count = len(list(cloud.fleet.meters()))
    (failed,) = table.facts["failed"]
    said, lasting = BREAK[how]
    assert failed["id"] == meter.id
    assert said in failed["reason"]
    assert "give --timezone" in failed["reason"]
    assert meter.id in failed["reason"]
    assert failed.get("lasting", False) == lasting
    assert table.facts["done"] == len(table.rows) == count - 1
    entry = json.loads((tmp_path / "o/manifest.json").read_text())["files"][
        USAGE.file_name(meter.id)
    ]
    assert (entry["state"], entry["reason"]) == ("failed", failed["reason"])

    cloud.faults.clear()
    before = len(cloud.log)
    table = download_series(mute(lost=[meter.id], jobs=jobs), USAGE, Output(tmp_path / "o"))
    asked = [one.path.rpartition("/")[2] for one in cloud.log[before:]]
    assert sorted(asked) == ["location", "meter", "premise", "usage"]
    assert table.facts["failed"] == []
    assert table.facts["done"] == count


def test_a_forced_zone_needs_none(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """As the reason says: --timezone is what helps."""
    meter = one_of(cloud)
    break_zone(cloud, "404", [meter.id])
    request = replace(USAGE, zone=ZoneInfo("America/Denver"))
    assert download_series(mute(lost=[meter.id]), request, Output(tmp_path)).facts["failed"] == []
    assert located(cloud) == []


def test_a_file_that_is_there_stays(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """A zone that was known once is no reason to doubt what was fetched."""
    meter = one_of(cloud)
    download_series(mute(), USAGE, Output(tmp_path))
    broken = mute(lost=[meter.id], locations={meter.id: None})
    table = download_series(broken, USAGE, Output(tmp_path))
    assert table.facts["failed"] == []
    assert table.facts["kept"] == len(list(cloud.fleet.meters()))


def test_readings_of_the_others(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """It is in the table without a local time of creation."""
    meter = one_of(cloud)
    context = mute(lost=[meter.id], locations={meter.id: None})
    table = download_readings(context, READINGS, Output(tmp_path))
    assert [one["id"] for one in table.facts["failed"]] == [meter.id]
    assert table.facts["done"] == len(list(cloud.fleet.meters())) - 1
    assert [row[0] for row in table.rows if row[2] is None] == [meter.id]


def test_a_dump_of_the_others(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """All its days have failed; what lacks something is not zipped."""
    meter = one_of(cloud)
    context = mute(lost=[meter.id], locations={meter.id: None})
    table = dump_days(context, DUMP, Output(tmp_path))
    assert [(f["id"], f["files"]) for f in table.facts["failed"]] == [(meter.id, 2)]
    assert table.facts["bundle"] is None
    assert {row[1] for row in table.rows} == {len(list(cloud.fleet.meters())) - 1}
    table = dump_days(mute(), DUMP, Output(tmp_path))
    assert table.facts["bundle"] is not None


def test_monthly_sums_of_the_others(cloud: Sandbox, mute: Mute) -> None:
    """No sum is made of half the meters of a type; the other types have theirs."""
    meter = one_of(cloud)
    context = mute(lost=[meter.id], locations={meter.id: None})
    table = report_monthly(context, date(2022, 2, 1), include_per_meter_sum=True).table
    assert [one["id"] for one in table.facts["failed"]] == [meter.id]
    summed = {row[0] for row in table.rows if "cumulative" in str(row[0])}
    kinds = {m.type for m in cloud.fleet.meters()} - {meter.type}
    assert summed == {f"{kind} cumulative per-meter usage" for kind in kinds}


@pytest.fixture
def water() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(quota=None, now=NOW, premises=24)) as found:
        yield found


def test_reversals_of_the_others(water: Sandbox, make_context: Callable[..., Context]) -> None:
    """The premise of a meter without a zone is left out, and told."""
    sides = [m for m in water.fleet.meters() if m.type in ("water_indoor", "water_outdoor")]
    context = make_context(water)
    client = MuteClient(context.session, water.config.enterprise_id)
    home = sides[0].premise_id
    client.mute, client.lost = {home}, set()
    client.locations = {m.id: None for m in sides if m.premise_id == home}
    context = replace(context, client=client, progress=Told())
    table = check_water_reversals(context)
    failed = {one["id"] for one in table.facts["failed"]}
    assert failed == set(client.locations)
    assert home not in {row[0] for row in table.rows}
    estimate = estimate_water_reversals(context)
    assert len(context.progress.said) == len(failed)  # type: ignore[attr-defined]
    assert f"{len(sides) - len(failed)} meters" in str(estimate.rows[0])


ESTIMATES: dict[str, Callable[[Context, Path], Any]] = {
    "usage": lambda context, path: estimate_series(context, USAGE, Output(path)),
    "readings": lambda context, path: estimate_readings(context, READINGS, Output(path)),
    "dump": lambda context, path: estimate_dump(context, DUMP, Output(path)),
    "monthly": lambda context, path: estimate_monthly(context, START, include_per_meter_sum=True),
}


@pytest.mark.parametrize("command", ESTIMATES)
def test_a_plan_counts_without_it_and_says_so(
    cloud: Sandbox, mute: Mute, tmp_path: Path, command: str
) -> None:
    """One call less for the meter, one more for the location that the run will ask too."""
    meter = one_of(cloud)
    whole = ESTIMATES[command](mute(), tmp_path).facts["calls"]
    progress = Told()
    context = mute(lost=[meter.id], locations={meter.id: None}, progress=progress)
    assert ESTIMATES[command](context, tmp_path).facts["calls"] == whole - 1 + 1
    (said,) = progress.said
    assert said.startswith(f"{meter.id} is not counted: the cloud knows no time zone")


def test_locations_that_are_kept_are_counted_as_such(
    cloud: Sandbox, mute: Mute, tmp_path: Path
) -> None:
    """The plan asked for them, so that the run need not."""
    meter = one_of(cloud)
    context = mute(lost=[meter.id], use_cache=True)
    facts = estimate_series(context, USAGE, Output(tmp_path)).facts
    assert facts["calls"] == len(list(cloud.fleet.meters())) + 1
    assert facts["cached"] == 1


@pytest.mark.parametrize("jobs", [1, 4])
def test_one_location_a_premise(cloud: Sandbox, mute: Mute, tmp_path: Path, jobs: int) -> None:
    """However many meters it has; those of several premises are asked for all the same."""
    homes = homes_of(cloud)
    table = download_series(mute(*homes, jobs=jobs), USAGE, Output(tmp_path))
    assert table.facts["failed"] == []
    of = {meter.id: meter.premise_id for meter in cloud.fleet.meters()}
    assert sorted(of[meter_id] for meter_id in located(cloud)) == homes


def test_a_neighbour_may_know_the_zone(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """Where the first meter of a premise has no location, the next one's counts for all."""
    first, second, *_ = crowd(cloud)
    context = mute(first.premise_id, locations={first.id: None})
    assert download_series(context, USAGE, Output(tmp_path)).facts["failed"] == []
    assert located(cloud) == [first.id, second.id]


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_refused_client_ends_it(cloud: Sandbox, mute: Mute, tmp_path: Path, jobs: int) -> None:
    """403 wherever it asks, and no zone known otherwise: the client's matter, not the meter's.
    It is found out in few calls."""
    cloud.faults.add(Fault(path="location", status=403, times=None))
    homes = homes_of(cloud)
    with pytest.raises(CredentialsError):
        download_series(mute(*homes, jobs=jobs), USAGE, Output(tmp_path))
    assert len(set(located(cloud))) <= 3 + jobs


def test_a_refused_client_of_one_meter_ends_it(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """Nothing speaks for its permission, however few there are to ask for."""
    cloud.faults.add(Fault(path="location", status=403, times=None))
    meter = one_of(cloud)
    request = replace(USAGE, meter_ids=(meter.id,))
    with pytest.raises(CredentialsError):
        download_series(mute(*homes_of(cloud)), request, Output(tmp_path))


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_location_that_is_refused_among_mute_premises(
    cloud: Sandbox, mute: Mute, tmp_path: Path, jobs: int
) -> None:
    """Where the cloud tells the zones of others, the client is permitted; that meter is not."""
    homes = homes_of(cloud)
    meter = one_of(cloud)
    break_zone(cloud, "403", [meter.id])
    context = mute(*homes, lost=[meter.id], jobs=jobs)
    facts = download_series(context, USAGE, Output(tmp_path)).facts
    assert [one["id"] for one in facts["failed"]] == [meter.id]
    assert facts["done"] == len(list(cloud.fleet.meters())) - 1


def test_a_spent_quota_ends_it(cloud: Sandbox, mute: Mute, tmp_path: Path) -> None:
    """Before any file, with the instant when to go on."""
    homes = homes_of(cloud)
    context = mute(*homes, quota=(Limit(4, 3600),), wait=False)
    with pytest.raises(QuotaSpentError):
        download_series(context, USAGE, Output(tmp_path))
