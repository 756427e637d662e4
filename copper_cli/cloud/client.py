"""The partner endpoints: one method each, both kinds of paging, records out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from copper_cli.cloud import parse
from copper_cli.cloud.events import RowsLeftOut
from copper_cli.cloud.session import CloudSession, reuse_always
from copper_cli.cloud.worth import check_filled, check_grid, hold_readings, hold_series
from copper_cli.errors import BadRequestError, CloudError, CredentialsError, NotFoundError
from copper_cli.filling import TO_COME_S, GapFinder, may_change, span_gaps
from copper_cli.records import (
    Aggregate,
    BulkReading,
    Gateway,
    GridReading,
    GridSeries,
    Meter,
    Premise,
    Reading,
    Series,
    SeriesKind,
    StateChange,
    Window,
)
from copper_cli.text import one_line

DEFAULT_QUERY_LIMIT = 1000
"""The cloud's own page length, left out of the question."""


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


One = TypeVar("One", bound=_Identified)
T = TypeVar("T")


class CloudClient:
    """What an enterprise's meters, premises and gateways say.

    Every method raises what CloudSession.get_json raises. Amounts are as the cloud answers.
    """

    def __init__(
        self, session: CloudSession, enterprise_id: str, query_limit: int = DEFAULT_QUERY_LIMIT
    ) -> None:
        if not enterprise_id:
            raise CredentialsError("Set COPPER_ENTERPRISE_ID to your enterprise's id.")
        self._session = session
        self._root = f"/api/v2/partner/{quote_segment(enterprise_id, 'enterprise')}"
        self._query_limit = query_limit

    def fetch_premises(self, *, with_users: bool = False) -> list[Premise]:
        """Every premise, in the cloud's order; with the emails of its users when asked for."""
        params = {"with_users": "True"} if with_users else {}
        reuse = _has_every_email if with_users else reuse_always
        read = partial(parse.parse_premises, with_users=with_users)
        return self._offset_list("premise", params, read, reuse)

    def fetch_meters(
        self, *, with_history: bool = True, premise_id: str | None = None
    ) -> list[Meter]:
        """Every meter, or those of a premise, in the cloud's order."""
        params = {} if with_history else {"with_history": "false"}
        if premise_id is not None:
            params["premise_id"] = premise_id
        return self._offset_list("meter", params, parse.parse_meters)

    def fetch_gateways(self, *, with_history: bool = False) -> list[Gateway]:
        """Every gateway, those not yet installed too, in the cloud's order."""
        params = {} if with_history else {"with_history": "false"}
        return self._offset_list("gateway", params, parse.parse_gateways)

    def fetch_gateway_histories(self) -> dict[str, tuple[StateChange, ...]]:
        """State changes by gateway id."""
        found = self._offset_list("gateway/history", {}, parse.parse_histories)
        return {history.id: history.changes for history in found}

    def fetch_bulk(self) -> list[BulkReading]:
        """The newest register of each meter heard recently, in the standard unit."""
        return self._next_list("bulk", parse.parse_bulk)

    def fetch_grid_latest(self) -> list[GridReading]:
        """The newest grid reading of each gateway."""
        return self._next_list("grid/latest", parse.parse_grid)

    def fetch_grid_readings(
        self,
        window: Window,
        *,
        premise_id: str | None = None,
        gateway_id: str | None = None,
        anew: bool = False,
    ) -> dict[str, GridSeries]:
        """Grid readings in a window by gateway. One call.

        Readings may lie at both ends of the window. `anew`: whatever the cache holds.
        """

        def read(body: Any) -> dict[str, GridSeries]:
            found = parse.parse_grid_series(body, "grid readings")
            if gateway_id is not None:
                _check_gateway(found, gateway_id)
            check_grid(found.values(), window, "grid readings")
            return found

        return self._session.get_json(
            *self._grid_question(window, premise_id, gateway_id),
            read=read,
            reuse=lambda found: not self._may_fill(window, is_empty=not found),
            anew=anew,
        )

    def is_grid_cached(
        self, window: Window, *, premise_id: str | None = None, gateway_id: str | None = None
    ) -> bool:
        """True where fetch_grid_readings would need no call."""
        return self._session.is_cached(*self._grid_question(window, premise_id, gateway_id))

    def _grid_question(
        self, window: Window, premise_id: str | None, gateway_id: str | None
    ) -> tuple[str, dict[str, str | int]]:
        params = window_params(window)
        if premise_id is not None:
            params["premise_id"] = premise_id
        if gateway_id is not None:
            params["gateway_id"] = gateway_id
        return f"{self._root}/grid/readings", params

    def fetch_series(
        self,
        meter_id: str,
        kind: SeriesKind,
        window: Window,
        granularity: str,
        *,
        anew: bool = False,
    ) -> Series:
        """Interval rows of one meter, ascending, each instant once. One call.

        Rows may lie at both ends of the window. An answer with buckets that may still be filled
        is not kept in the cache; `anew`: nor is it asked. Raises CloudError for an answer that
        contradicts the question.
        """
        what = _asked(kind, meter_id, window)

        def read(body: Any) -> Series:
            found = parse.parse_series(body, kind, what, meter_id)
            held = hold_series(found, window, granularity, what)
            self._tell_left_out(held.left_out, what)
            if window.end_utc.timestamp() < self._session.clock.now() - TO_COME_S:
                check_filled(held.series, what)
            return held.series

        def is_settled(series: Series) -> bool:
            finder = GapFinder(int(window.start_utc.timestamp()), granularity)
            finder.feed(series.times_s, series.energy)
            gaps = finder.end(int(window.end_utc.timestamp()))
            return not may_change(gaps, self._session.clock.now())

        return self._session.get_json(
            *self._series_question(meter_id, kind, window, granularity),
            read=read,
            reuse=is_settled,
            anew=anew,
        )

    def is_series_cached(
        self, meter_id: str, kind: SeriesKind, window: Window, granularity: str
    ) -> bool:
        """True where fetch_series would need no call."""
        return self._session.is_cached(*self._series_question(meter_id, kind, window, granularity))

    def _series_question(
        self, meter_id: str, kind: SeriesKind, window: Window, granularity: str
    ) -> tuple[str, dict[str, str | int]]:
        params = {"granularity": granularity, **window_params(window)}
        return f"{self._meter(meter_id)}/{kind}", params

    def fetch_readings(self, meter_id: str, window: Window, *, anew: bool = False) -> list[Reading]:
        """Register readings of one meter as it sent them, ascending by time. One call.

        `anew`: whatever the cache holds.
        """
        what = _asked("readings", meter_id, window)

        def read(body: Any) -> list[Reading]:
            found = parse.parse_readings(body, what, meter_id)
            kept, left_out = hold_readings(found, window, what)
            self._tell_left_out(left_out, what)
            return kept

        return self._session.get_json(
            f"{self._meter(meter_id)}/readings",
            window_params(window),
            read=read,
            reuse=lambda found: not self._may_fill(window, is_empty=not found),
            anew=anew,
        )

    def is_readings_cached(self, meter_id: str, window: Window) -> bool:
        """True where fetch_readings would need no call."""
        return self._session.is_cached(f"{self._meter(meter_id)}/readings", window_params(window))

    def fetch_timezone(self, meter_id: str) -> str | None:
        """IANA name of the zone where a meter is; None where the cloud does not say."""
        path = f"{self._meter(meter_id)}/location"
        return self._session.get_json(path, read=parse.parse_timezone)

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

    def _may_fill(self, window: Window, *, is_empty: bool) -> bool:
        """True where more readings of a window may still reach the cloud."""
        span = int(window.start_utc.timestamp()), int(window.end_utc.timestamp())
        return bool(span_gaps(*span, is_empty=is_empty, now_s=self._session.clock.now()))

    def _tell_left_out(self, rows: int, what: str) -> None:
        if rows:
            self._session.tell(RowsLeftOut(what, rows))

    def _meter(self, meter_id: str) -> str:
        return f"{self._root}/meter/{quote_segment(meter_id, 'meter')}"

    def _offset_list(
        self,
        name: str,
        params: Mapping[str, str | int],
        read_rows: Callable[[list[parse.Row]], list[One]],
        reuse: Callable[[Sequence[One]], bool] = reuse_always,
    ) -> list[One]:
        """What is on every page, each id once. A page that brings nothing new is an error."""

        def read(body: Any) -> tuple[int, list[One]]:
            rows = parse.parse_list(body, name)
            return len(body), read_rows(rows)

        found: dict[str, One] = {}
        offset = 0
        while True:
            page_params = dict(params)
            if self._query_limit != DEFAULT_QUERY_LIMIT:
                page_params["limit"] = self._query_limit
            if offset:
                page_params["offset"] = offset
            known = len(found)
            length, page = self._session.get_json(
                f"{self._root}/{name}", page_params, read=read, reuse=lambda page: reuse(page[1])
            )
            for one in page:
                found.setdefault(one.id, one)
            if length < self._query_limit:
                return list(found.values())
            if len(found) == known:
                raise CloudError(
                    f"{name}: the cloud repeats a page (rows from {offset} on); "
                    "the list cannot be read to its end."
                )
            offset += length

    def _next_list(self, name: str, read_rows: Callable[[list[parse.Row]], list[T]]) -> list[T]:
        """What is on every page; `next` is followed on the API host only, never in a ring."""

        def read(body: Any) -> tuple[list[T], str | None]:
            rows, following = parse.parse_next_page(body, name)
            return read_rows(rows), following

        path = f"{self._root}/{name}"
        found: list[T] = []
        seen = {path}
        while True:
            page, following = self._session.get_json(path, read=read)
            found += page
            if following is None:
                return found
            path = next_path(self._session.settings.api_url, path, following, name)
            if path in seen:
                raise CloudError(f"{name}: the cloud's pages go in a ring; the list has no end.")
            seen.add(path)


def quote_segment(text: str, what: str) -> str:
    """The id as one segment of a path, so that no id can name another path.

    Raises NotFoundError for what no encoding can make a segment: nothing, `.` and `..`.
    """
    if text in ("", ".", ".."):
        raise NotFoundError(f"There is no {what} {text!r}.")
    return quote(text, safe="", errors="replace")


def _asked(kind: str, meter_id: str, window: Window) -> str:
    span = window_params(window)
    return f"{kind} of meter {meter_id} from {span['start']} to {span['end']}"


def _check_gateway(found: Mapping[str, GridSeries], gateway_id: str) -> None:
    """CloudError where an answer about one gateway is about others only."""
    if found and gateway_id not in found:
        other = one_line(next(iter(found)), 80)
        raise CloudError(f"grid readings of gateway {gateway_id}: the cloud answered for {other}.")


def _has_every_email(premises: Sequence[Premise]) -> bool:
    """False where a user's email is missing: the cloud is still filling its cache."""
    return all(None not in (premise.emails or ()) for premise in premises)


def window_params(window: Window) -> dict[str, str | int]:
    """`start` and `end` as the cloud reads them: UTC, whole seconds, `2020-12-22T07:00:00Z`."""
    return {"start": _text(window.start_utc), "end": _text(window.end_utc)}


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def next_path(api_url: str, path: str, following: str, what: str) -> str:
    """The path and query of the next page. CloudError where it leads to another host."""
    origin = urlsplit(api_url)
    try:
        found = urlsplit(urljoin(api_url + path, following))
    except ValueError:
        raise CloudError(f"{what}: the cloud names a next page that is no address.") from None
    if (found.scheme, found.netloc) != (origin.scheme, origin.netloc):
        raise CloudError(f"{what}: the cloud names a next page on another host; not followed.")
    whole = found._replace(scheme="", netloc="", fragment="").geturl()
    whole = whole if whole.startswith("/") else f"/{whole}"
    return whole.removeprefix(origin.path) if origin.path else whole
