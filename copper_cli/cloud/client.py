"""The partner endpoints: one method each, records out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from copper_cli.cloud import parse
from copper_cli.cloud.events import RowsLeftOut
from copper_cli.cloud.pages import DEFAULT_QUERY_LIMIT, ListReader, OnList, use_all
from copper_cli.cloud.session import CloudSession, reuse_always
from copper_cli.cloud.worth import (
    check_filled,
    check_local_times,
    check_sum,
    hold_grid,
    hold_readings,
    hold_series,
)
from copper_cli.errors import BadRequestError, CloudError, CredentialsError, NotFoundError
from copper_cli.filling import TO_COME_S
from copper_cli.records import (
    Aggregate,
    BulkReading,
    Gateway,
    GridAnswer,
    GridReading,
    Meter,
    Premise,
    Readings,
    Series,
    SeriesKind,
    StateChange,
    Window,
)
from copper_cli.text import one_line


class CloudClient:
    """What an enterprise's meters, premises and gateways say.

    Every method raises what CloudSession.get_json raises. Amounts are as the cloud answers.
    """

    def __init__(
        self,
        session: CloudSession,
        enterprise_id: str,
        query_limit: int = DEFAULT_QUERY_LIMIT,
        *,
        on_list: OnList = use_all,
    ) -> None:
        if not enterprise_id:
            raise CredentialsError("Set COPPER_ENTERPRISE_ID to your enterprise's id.")
        self._session = session
        self._root = f"/api/v2/partner/{quote_segment(enterprise_id, 'enterprise')}"
        self._on_list = on_list
        self._lists = ListReader(session, self._root, query_limit, on_list)

    def fetch_premises(self, *, with_users: bool = False, anew: bool = False) -> list[Premise]:
        """Every premise, in the cloud's order; with the emails of its users when asked for.

        `anew`, here and below: the cloud is asked, whatever the cache has.
        """
        params = {"with_users": "True"} if with_users else {}
        reuse = _has_every_email if with_users else reuse_always
        read = partial(parse.parse_premises, with_users=with_users)
        return self._lists.read_by_offset("premise", params, read, reuse, anew=anew)

    def fetch_meters(
        self, *, with_history: bool = True, premise_id: str | None = None, anew: bool = False
    ) -> list[Meter]:
        """Every meter, or those of a premise, in the cloud's order."""
        params = {} if with_history else {"with_history": "false"}
        if premise_id is not None:
            params["premise_id"] = premise_id
        return self._lists.read_by_offset("meter", params, parse.parse_meters, anew=anew)

    def fetch_gateways(self, *, with_history: bool = False, anew: bool = False) -> list[Gateway]:
        """Every gateway, those not yet installed too, in the cloud's order."""
        params = {} if with_history else {"with_history": "false"}
        return self._lists.read_by_offset("gateway", params, parse.parse_gateways, anew=anew)

    def fetch_gateway_histories(self) -> dict[str, tuple[StateChange, ...]]:
        """State changes by gateway id."""
        found = self._lists.read_by_offset("gateway/history", {}, parse.parse_histories)
        return {history.id: history.changes for history in found}

    def fetch_bulk(self, *, anew: bool = False) -> list[BulkReading]:
        """The newest register of each meter heard recently, in the standard unit."""
        return self._lists.read_by_next(
            "bulk",
            parse.is_bulk_row,
            parse.parse_bulk,
            lambda reading: reading.meter_id,
            anew=anew,
        )

    def fetch_grid_latest(self) -> list[GridReading]:
        """The newest grid reading of each gateway."""
        return self._lists.read_by_next(
            "grid/latest", parse.is_grid_row, parse.parse_grid, lambda reading: reading.gateway_id
        )

    def fetch_grid_readings(
        self,
        window: Window,
        *,
        premise_id: str | None = None,
        gateway_id: str | None = None,
    ) -> GridAnswer:
        """Grid readings in a window by gateway. One call.

        Readings may lie at both ends of the window, and an hour beyond. Those that name no
        gateway are told, unless one was asked for: they are lost to that one. An answer to which
        more may still come, or of which something could not be read, is not kept in the cache;
        `anew`: nor is it asked. Raises CloudError for an answer that contradicts the question.
        """
        what = "grid readings" if gateway_id is None else f"grid readings of gateway {gateway_id}"
        what = f"{what} {_span(window)}"

        def read(body: Any) -> GridAnswer:
            found = parse.parse_grid_series(body, what)
            if gateway_id is not None:
                found = _only_gateway(found, gateway_id, what)
            is_local = parse.has_local_times(body, "grid")
            held, left_out = hold_grid(found, window, what, is_local=is_local)
            self._tell_left_out(left_out, what)
            return held

        params = window_params(window)
        if premise_id is not None:
            params["premise_id"] = premise_id
        if gateway_id is not None:
            params["gateway_id"] = gateway_id
        found = self._session.get_json(
            f"{self._root}/grid/readings", params, read=read, cached=False
        )
        rows = sum(len(one.times_us) + one.lost for one in found.series.values())
        self._session.note_unread(what, found.unnamed, rows + found.unnamed)
        kept = self._on_list(
            "grid/readings", list(found.series), self._session.clock.now(), is_whole=False
        )
        return replace(found, series={one: found.series[one] for one in kept})

    def fetch_series(
        self,
        meter_id: str,
        kind: SeriesKind,
        window: Window,
        granularity: str,
    ) -> Series:
        """Interval rows of one meter, ascending, each instant once. One call.

        Rows may lie at both ends of the window. Raises CloudError for an answer that contradicts
        the question.
        """
        what = _asked(kind, meter_id, window)

        def read(body: Any) -> Series:
            found = parse.parse_series(body, kind, what, meter_id)
            is_over = window.end_utc.timestamp() < self._session.clock.now() - TO_COME_S
            if parse.has_local_times(body, kind):
                check_local_times(found, window, granularity, what, is_over=is_over)
            held = hold_series(found, window, granularity, what)
            if is_over:
                check_sum(held.series, window, granularity, what)
                check_filled(held.series, window, granularity, what)
            self._tell_left_out(held.left_out, what)
            return held.series

        params = {"granularity": granularity, **window_params(window)}
        return self._session.get_json(
            f"{self._meter(meter_id)}/{kind}", params, read=read, cached=False
        )

    def fetch_readings(self, meter_id: str, window: Window) -> Readings:
        """Register readings of one meter as it sent them, ascending by time. One call.

        They may lie an hour outside the window. Raises CloudError for an answer that contradicts
        the question.
        """
        what = _asked("readings", meter_id, window)

        def read(body: Any) -> Readings:
            found = parse.parse_readings(body, what, meter_id)
            is_local = parse.has_local_times(body, "readings")
            kept, left_out = hold_readings(found, window, what, is_local=is_local)
            self._tell_left_out(left_out, what)
            return kept

        return self._session.get_json(
            f"{self._meter(meter_id)}/readings",
            window_params(window),
            read=read,
            cached=False,
        )

    def fetch_timezone(self, meter_id: str) -> str | None:
        """IANA name of the zone where a meter is; None where the cloud does not say."""
        ages: list[float] = []
        name = self._session.get_json(
            f"{self._meter(meter_id)}/location",
            read=partial(parse.parse_timezone, what=f"location of meter {meter_id}"),
            reuse=lambda name: name is not None,
            on_age=ages.append,
        )
        self._on_list("location", [(meter_id, name)], min(ages), is_whole=False)
        return name

    def is_timezone_cached(self, meter_id: str) -> bool:
        """True where fetch_timezone would need no call."""
        return self._session.is_cached(f"{self._meter(meter_id)}/location")

    def fetch_aggregate(
        self, meter_type: str, window: Window, *, granularity: str = "month"
    ) -> Aggregate | None:
        """What all reporting meters of a type used; None where none of the type reports.

        ASSUMED: that case is a 400 or 404. Check: ask for a type the enterprise does not have.
        """
        try:
            return self._session.get_json(
                *self._aggregate_question(meter_type, window, granularity),
                read=lambda body: parse.parse_aggregate(body, f"the use of {meter_type} meters"),
            )
        except (BadRequestError, NotFoundError):
            return None

    def is_aggregate_cached(
        self, meter_type: str, window: Window, *, granularity: str = "month"
    ) -> bool:
        """True where fetch_aggregate would need no call."""
        return self._session.is_cached(*self._aggregate_question(meter_type, window, granularity))

    def _aggregate_question(
        self, meter_type: str, window: Window, granularity: str
    ) -> tuple[str, dict[str, str | int]]:
        params = {"granularity": granularity, **window_params(window), "meter_type": meter_type}
        return f"{self._root}/aggregate/usage", params

    def _tell_left_out(self, rows: int, what: str) -> None:
        if rows:
            self._session.tell(RowsLeftOut(what, rows))

    def _meter(self, meter_id: str) -> str:
        return f"{self._root}/meter/{quote_segment(meter_id, 'meter')}"


def quote_segment(text: str, what: str) -> str:
    """The id as one segment of a path, so that no id can name another path.

    Raises NotFoundError for what no encoding can make a segment: nothing, `.` and `..`.
    """
    if text in ("", ".", ".."):
        raise NotFoundError(f"There is no {what} {text!r}.")
    return quote(text, safe="", errors="replace")


def _asked(kind: str, meter_id: str, window: Window) -> str:
    return f"{kind} of meter {meter_id} {_span(window)}"


def _span(window: Window) -> str:
    span = window_params(window)
    return f"from {span['start']} to {span['end']}"


def _only_gateway(answer: GridAnswer, gateway_id: str, what: str) -> GridAnswer:
    """An answer about one gateway. CloudError where it is about others only."""
    if not answer.series:
        return answer
    own = answer.series.get(gateway_id)
    if own is None:
        other = one_line(next(iter(answer.series)), 80)
        raise CloudError(f"{what}: the cloud answered for {other}.")
    return GridAnswer({gateway_id: replace(own, lost=own.lost + answer.unnamed)})


def _has_every_email(premises: Sequence[Premise]) -> bool:
    """False where a user's email is missing: the cloud is still filling its cache."""
    return all(None not in (premise.emails or ()) for premise in premises)


def window_params(window: Window) -> dict[str, str | int]:
    """`start` and `end` as the cloud reads them: UTC, whole seconds, `2020-12-22T07:00:00Z`."""
    return {"start": _text(window.start_utc), "end": _text(window.end_utc)}


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
