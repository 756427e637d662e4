"""The endpoints, partner and app: each takes a call and gives an answer or raises ApiError."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from math import fsum
from random import Random
from threading import Lock
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from copper_cli.sandbox import records
from copper_cli.sandbox.answers import Answer, ApiError, Call, answer_json
from copper_cli.sandbox.config import GRANULARITIES, SandboxConfig
from copper_cli.sandbox.fleet import HOUR_S, UNITS, Fleet, Gateway, Meter, Premise
from copper_cli.sandbox.identifiers import mix
from copper_cli.sandbox.instants import STEPS_S, format_instant, lay_bounds, parse_instant
from copper_cli.sandbox.usage import Window, write_series, write_usage

DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000
MAX_ROWS = 1_100_000
"""More rows than this in one answer are refused with 400: two years of minutes fit."""

APP_PREMISES = 3
"""The individual user has the first premises of the fleet, this many at most."""


class Endpoints:
    """Every endpoint of the API over one fleet; safe between threads."""

    def __init__(self, config: SandboxConfig, fleet: Fleet) -> None:
        self._config = config
        self._fleet = fleet
        self._spans = config.spans()
        self._delays = config.delays()
        self._lock = Lock()
        self._asked_for_users = 0

    def forget_users(self) -> None:
        """Lets emails be missing again, as at the start."""
        with self._lock:
            self._asked_for_users = 0

    # ---- partner: offset lists

    def list_premises(self, call: Call) -> Answer:
        """`premise`, with `user_list` on `with_users=True`."""
        with_users = _is_true(call, "with_users", False)
        missing = with_users and self._miss_emails()

        def describe(premise: Premise) -> dict[str, Any]:
            content = records.describe_premise(self._fleet, premise)
            if with_users:
                content["user_list"] = records.list_users(premise, missing)
            return content

        indices = self._slice(call, range(self._fleet.premise_count))
        return answer_json([describe(self._fleet.premise_at(index)) for index in indices])

    def list_meters(self, call: Call) -> Answer:
        """`meter`, all of them or those of `premise_id`."""
        fleet, now_s = self._fleet, call.now_s
        with_history = _is_true(call, "with_history", True)
        raw = "raw-last-reading" in self._config.quirks

        def describe(meter: Meter) -> dict[str, Any]:
            content = records.describe_meter(fleet, meter, now_s, raw)
            if with_history:
                content["seven_day_history"] = records.tell_meter_history(fleet, meter, now_s)
            return content

        if "premise_id" in call.query:
            premise = fleet.find_premise(call.query["premise_id"])
            meters = fleet.meters_of(premise) if premise else []
            return answer_json([describe(meters[i]) for i in self._slice(call, range(len(meters)))])
        indices = self._slice(call, range(fleet.meter_count))
        return answer_json([describe(fleet.meter_at(index)) for index in indices])

    def list_gateways(self, call: Call) -> Answer:
        """`gateway`, the virgin ones last."""
        with_history = _is_true(call, "with_history", True)

        def describe(gateway: Gateway) -> dict[str, Any]:
            content = records.describe_gateway(self._fleet, gateway, call.now_s)
            if with_history:
                content["history"] = records.tell_gateway_history(gateway, call.now_s)
            return content

        indices = self._slice(call, range(self._fleet.gateway_count))
        return answer_json([describe(self._fleet.gateway_at(index)) for index in indices])

    def list_gateway_histories(self, call: Call) -> Answer:
        """`gateway/history`."""
        indices = self._slice(call, range(self._fleet.gateway_count))
        gateways = (self._fleet.gateway_at(index) for index in indices)
        return answer_json(
            [
                {"id": one.id, "history": records.tell_gateway_history(one, call.now_s)}
                for one in gateways
            ]
        )

    # ---- partner: next lists

    def list_bulk(self, call: Call) -> Answer:
        """`bulk`: a reading of each meter heard within a day."""
        fleet = self._fleet

        def describe(index: int) -> dict[str, Any] | None:
            meter = fleet.meter_at(index)
            if meter.silence_s is None or meter.silence_s > records.HEARD_RECENTLY_S:
                return None
            second = fleet.last_reading_s(meter, call.now_s)
            if second is None or second < call.now_s - records.HEARD_RECENTLY_S:
                return None
            return {
                "meter_id": meter.id,
                "meter_type": meter.type,
                "value": fleet.register_of(meter).measure([second, second]).value[0],
                "timestamp": format_instant(second),
                "quality": "good",
            }

        return self._answer_page(call, fleet.meter_count, describe)

    def list_grid_latest(self, call: Call) -> Answer:
        """`grid/latest`: the last grid reading of each gateway that is up."""

        def describe(index: int) -> dict[str, Any] | None:
            gateway = self._fleet.gateway_at(index)
            second = records.last_grid_s(gateway, call.now_s)
            if gateway.state != "active" or second is None:
                return None
            content = records.describe_grid(self._fleet, gateway, second)
            return {"premise_id": gateway.premise_id, **content}

        return self._answer_page(call, self._fleet.gateway_count, describe)

    # ---- partner: windows

    def list_grid_readings(self, call: Call) -> Answer:
        """`grid/readings`: one array over every gateway asked for, not sorted."""
        start_s, end_s = self._parse_window(call, "grid")
        gateways = list(self._choose_gateways(call))
        quarters = max(0, end_s - start_s) // records.GRID_STEP_S + 1
        _check_rows(len(gateways) * quarters)
        readings = [
            records.describe_grid(self._fleet, gateway, second)
            for gateway in gateways
            if start_s < end_s
            for second in _list_quarters(gateway, start_s, min(end_s, call.now_s), call.now_s)
        ]
        return answer_json(_unsort(readings, self._fleet.seed))

    def show_location(self, call: Call, meter_id: str) -> Answer:
        """`meter/{id}/location`."""
        premise = self._fleet.find_premise(self._find_meter(meter_id).premise_id)
        if premise is None:
            raise AssertionError(f"meter {meter_id} has no premise")
        content = records.describe_premise(self._fleet, premise)
        names = ("id", "created_at", "name", "tags")
        return answer_json({key: value for key, value in content.items() if key not in names})

    def list_readings(self, call: Call, meter_id: str) -> Answer:
        """`meter/{id}/readings`: about one an hour, not sorted, both ends inclusive.

        A window without length holds none all the same.
        """
        meter = self._find_meter(meter_id)
        start_s, end_s = self._parse_window(call, "readings")
        register = self._fleet.register_of(meter)
        first, last = max(start_s, register.first_s), min(end_s, register.last_s, call.now_s)
        _check_rows((end_s - start_s) // HOUR_S)
        hours = range(int(first // HOUR_S), int(last // HOUR_S) + 1)
        seconds = [self._fleet.reading_s(meter, hour) for hour in hours]
        results = [
            {
                "time": format_instant(second),
                "actual": measures.actual[0],
                "value": measures.value[0],
            }
            for second in seconds
            if first <= second <= last and start_s < end_s
            for measures in [register.measure([second, second])]
        ]
        return answer_json(
            {
                "meter_id": meter.id,
                "meter_type": meter.type,
                "source": "sandbox",
                "results": _unsort(results, meter.index),
            }
        )

    def show_usage(self, call: Call, meter_id: str) -> Answer:
        """`meter/{id}/usage`."""
        meter = self._find_meter(meter_id)
        register = self._fleet.register_of(meter)
        text = write_usage(meter.id, meter.type, register, self._lay_window(call, meter))
        return Answer(200, text.encode())

    def show_baseline(self, call: Call, meter_id: str) -> Answer:
        """`meter/{id}/baseline-series`."""
        return self._show_series(call, meter_id, "baseline")

    def show_average(self, call: Call, meter_id: str) -> Answer:
        """`meter/{id}/average-series`."""
        return self._show_series(call, meter_id, "average")

    def sum_usage(self, call: Call) -> Answer:
        """`aggregate/usage`: the usage of every meter of a type; 404 when none reports."""
        if call.query.get("granularity") != "month":
            raise ApiError(400, "granularity must be month", "text")
        meter_type = call.query.get("meter_type", "")
        if meter_type not in UNITS:
            raise ApiError(400, f"meter_type must be one of {', '.join(UNITS)}")
        start_s, end_s = self._parse_window(call, "month")
        ends = [
            (meter, min(end_s, self._find_filled(call, meter)))
            for meter in self._fleet.meters_of_type(meter_type)
        ]
        meters = [(meter, end) for meter, end in ends if meter.created_utc.timestamp() < end]
        if not meters:
            raise ApiError(404, f"no {meter_type} meter reports", "text")
        register_of = self._fleet.register_of
        energy = fsum(register_of(meter).total(min(start_s, end), end) for meter, end in meters)
        units = {meter.uom for meter, _ in meters}
        return answer_json(
            {
                "meter_type": meter_type,
                "meter_count": len(meters),
                "sum_energy": energy,
                "uom": units.pop() if len(units) == 1 else None,
            }
        )

    # ---- app

    def show_state(self, call: Call) -> Answer:
        """`state`: the user, the user's premises with their meters, and their gateways."""
        premises = self._app_premises()
        gateways = [self._fleet.gateway_at(premise.index) for premise in premises]
        return answer_json(
            {
                "user": {"id": "auth0|sandbox-user", "email": "user@example.com", "roles": []},
                "premise_list": [
                    {
                        **records.describe_premise(self._fleet, premise),
                        "meter_list": [
                            records.describe_meter(self._fleet, meter, call.now_s, False)
                            for meter in self._fleet.meters_of(premise)
                        ],
                    }
                    for premise in premises
                ],
                "gateway_list": [
                    records.describe_gateway(self._fleet, gateway, call.now_s)
                    for gateway in gateways
                ],
            }
        )

    def show_instant(self, call: Call, premise_id: str) -> Answer:
        """`instant/{premise_id}`: `instant_power` is the use of the last five minutes, an hour."""
        found = [premise for premise in self._app_premises() if premise.id == premise_id]
        if not found:
            raise ApiError(404, "premise not found", "empty")
        results = []
        for meter in self._fleet.meters_of(found[0]):
            second = self._fleet.last_reading_s(meter, call.now_s)
            if second is not None:
                used = self._fleet.register_of(meter).total(second - 300, second)
                results.append(
                    {
                        "id": meter.id,
                        "type": meter.type,
                        "instant_power": round(used * 12, 4),
                        "updated_at": format_instant(second),
                        "uom": meter.uom,
                    }
                )
        return answer_json({"results": results})

    def show_app_usage(self, call: Call, meter_id: str) -> Answer:
        """`usage/{meter_id}` of the app API."""
        self._check_own(meter_id)
        return self.show_usage(call, meter_id)

    def show_app_baseline(self, call: Call, meter_id: str) -> Answer:
        """`baseline-series/{meter_id}` of the app API."""
        self._check_own(meter_id)
        return self.show_baseline(call, meter_id)

    def show_app_average(self, call: Call, meter_id: str) -> Answer:
        """`average-series/{meter_id}` of the app API."""
        self._check_own(meter_id)
        return self.show_average(call, meter_id)

    # ---- what they share

    def _show_series(self, call: Call, meter_id: str, series: str) -> Answer:
        meter = self._find_meter(meter_id)
        register = self._fleet.register_of(meter)
        factor = self._fleet.series_factor(meter.id, series)
        window = self._lay_window(call, meter)
        text = write_series(meter.id, meter.type, register, window, factor)
        return Answer(200, text.encode())

    def _slice(self, call: Call, indices: range) -> range:
        """The part of a list which `limit` and `offset` ask for, and `max_page` grants."""
        limit = _parse_count(call.query, "limit", DEFAULT_LIMIT)
        offset = _parse_count(call.query, "offset", 0)
        if not 1 <= limit <= MAX_LIMIT:
            raise ApiError(400, f"limit must be between 1 and {MAX_LIMIT}")
        return indices[offset : offset + min(limit, self._config.max_page or limit)]

    def _find_filled(self, call: Call, meter: Meter) -> int:
        """The UTC second up to which a meter's buckets are filled: now, or before."""
        delay = self._delays.get(meter.id, self._delays.get("", timedelta(0)))
        return call.now_s - int(delay.total_seconds())

    def _miss_emails(self) -> bool:
        with self._lock:
            self._asked_for_users += 1
            return self._asked_for_users <= self._config.missing_emails

    def _find_meter(self, meter_id: str) -> Meter:
        meter = self._fleet.find_meter(meter_id)
        if meter is None:
            raise ApiError(404, f"meter {meter_id} not found")
        return meter

    def _app_premises(self) -> list[Premise]:
        return list(islice(self._fleet.premises(), APP_PREMISES))

    def _check_own(self, meter_id: str) -> None:
        mine = {premise.id for premise in self._app_premises()}
        if self._find_meter(meter_id).premise_id not in mine:
            raise ApiError(404, "meter not found", "empty")

    def _choose_gateways(self, call: Call) -> Iterator[Gateway]:
        """The installed gateways which `premise_id` and `gateway_id` leave."""
        if "gateway_id" in call.query:
            found = self._fleet.find_gateway(call.query["gateway_id"])
            gateways: Iterator[Gateway] = iter([found] if found else [])
        elif "premise_id" in call.query:
            premise = self._fleet.find_premise(call.query["premise_id"])
            gateways = iter([self._fleet.gateway_at(premise.index)] if premise else [])
        else:
            gateways = self._fleet.gateways()
        wanted = call.query.get("premise_id")
        return (
            gateway
            for gateway in gateways
            if gateway.premise_id and wanted in (None, gateway.premise_id)
        )

    def _answer_page(
        self, call: Call, count: int, describe: Callable[[int], dict[str, Any] | None]
    ) -> Answer:
        """A page of a next list: entries from the index in `cursor`, where describe gives one."""
        cursor = re.fullmatch(r"at([0-9a-f]{1,8})", call.query.get("cursor", "at0"))
        if not cursor:
            raise ApiError(400, "cursor cannot be read")
        index = int(cursor[1], 16)
        results: list[dict[str, Any]] = []
        while index < count and len(results) < self._config.next_page:
            content = describe(index)
            index += 1
            if content:
                results.append(content)
        query = urlencode({**call.query, "cursor": f"at{index:x}"})
        path = f"{quote(call.path)}?{query}" if index < count else None
        return answer_json({"results": results, "next": path})

    def _parse_window(self, call: Call, kind: str) -> tuple[int, int]:
        """`start` and `end` as UTC seconds; 400 when missing, wrong, or further apart than told."""
        start_s, end_s = (_parse_query_instant(call.query, name) for name in ("start", "end"))
        if end_s < start_s:
            raise ApiError(400, "end is before start")
        longest = self._spans.get(kind)
        if longest is not None and timedelta(seconds=end_s - start_s) > longest:
            raise ApiError(400, f"window too long for {kind}: at most {longest}")
        return start_s, end_s

    def _lay_window(self, call: Call, meter: Meter) -> Window:
        """The buckets of a usage or series call, refused or cut as the options say.

        A window without length has none: no bucket can lie in it.
        """
        granularity = call.query.get("granularity", "")
        if granularity == "auto":
            granularity = _choose_granularity(*self._parse_window(call, "auto"))
        if granularity not in GRANULARITIES:
            raise ApiError(400, f"granularity must be one of {', '.join(GRANULARITIES)}", "text")
        start_s, end_s = self._parse_window(call, granularity)
        _check_rows((end_s - start_s) // STEPS_S.get(granularity, HOUR_S))
        aligned = "aligned-buckets" in self._config.quirks
        zone = ZoneInfo(meter.zone) if aligned else None
        edges = lay_bounds(granularity, start_s, end_s, zone) if start_s < end_s else [start_s]
        if not _is_true(call, "include_start", True) and edges[1:2] == [start_s]:
            edges = edges[1:]
        cap = self._config.cap_rows
        if cap is not None and len(edges) > cap + 1:
            edges = edges[: cap + 1]
            if "capped-sum" in self._config.quirks:
                end_s = edges[-1]
        absent = "absent-buckets" in self._config.quirks
        return Window(start_s, end_s, self._find_filled(call, meter), edges, absent)


def _parse_count(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise ApiError(400, f"{name} must be a whole number")
    return int(text)


def _parse_query_instant(query: Mapping[str, str], name: str) -> int:
    try:
        return parse_instant(query[name])
    except (KeyError, ValueError, OverflowError):
        raise ApiError(400, f"{name} must be an instant such as 2020-12-22T07:00:00Z") from None


def _choose_granularity(start_s: int, end_s: int) -> str:
    """What `auto` means: about 50 to 800 rows. ASSUMED: the real rule is not known."""
    days = (end_s - start_s) / (24 * HOUR_S)
    for limit, granularity in ((2, "fifteenminute"), (31, "hour"), (366, "day")):
        if days <= limit:
            return granularity
    return "month"


def _is_true(call: Call, name: str, default: bool) -> bool:
    return call.query.get(name, str(default)).lower() in ("true", "1")


def _check_rows(rows: int) -> None:
    if rows > MAX_ROWS:
        raise ApiError(400, f"too much asked for: more than {MAX_ROWS} rows")


def _list_quarters(gateway: Gateway, start_s: int, end_s: int, now_s: int) -> range:
    """The quarters of an hour within start…end at which a gateway read the grid."""
    step = records.GRID_STEP_S
    first = max(start_s, int(gateway.created_utc.timestamp()))
    last = records.last_grid_s(gateway, now_s)
    if last is None:
        return range(0)
    return range(-(-first // step) * step, min(end_s, last) + 1, step)


def _unsort(rows: list[Any], seed: int) -> list[Any]:
    """The rows in an order that is never theirs (two or more), the same each time."""
    shuffled = list(rows)
    Random(mix(seed, len(rows))).shuffle(shuffled)  # noqa: S311  (an order, no secret)
    return shuffled if shuffled != rows else shuffled[::-1]


def cut_rows(body: bytes, rows: int) -> bytes:
    """An answer's JSON with only the first rows of its list; other answers stay."""
    content = json.loads(body)
    if isinstance(content, list):
        content = content[:rows]
    else:
        for name in ("results", "series"):
            if name in content:
                content[name] = content[name][:rows]
    return json.dumps(content, separators=(",", ":")).encode()
