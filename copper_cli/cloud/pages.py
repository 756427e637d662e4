"""Lists, read to their end: both kinds of paging."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from copper_cli.cloud import parse
from copper_cli.cloud.session import CloudSession, reuse_always
from copper_cli.errors import BadRequestError, CloudError, NotFoundError
from copper_cli.records import BulkReading, GridReading

DEFAULT_QUERY_LIMIT = 1000
"""The cloud's own page length, left out of the question."""
API_ROOT = "/api/v2"
END_KEPT_S = 86400
"""For so long a list that ended where a cap might be is not asked for more at the same row."""
_CAP_STEP = 50
_MANY = 1000
_MOST_EMPTY_PAGES = 20
_PORTS = {"http": 80, "https": 443}
_WITHOUT_CHOICE = {"with_users", "with_history"}
"""What a list may be asked with and still be all of it."""


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


One = TypeVar("One", bound=_Identified)
Newest = TypeVar("Newest", BulkReading, GridReading)


class OnList(Protocol):
    """Told of each list that was read to its end; says what of it may be used."""

    def __call__(
        self, kind: str, records: list[Any], seen_s: float, *, is_whole: bool
    ) -> list[Any]:
        """The records that are left of a list that the cloud gave at an instant.

        `is_whole`: it was asked for without conditions, and all of it could be read.
        """


def use_all(kind: str, records: list[Any], seen_s: float, *, is_whole: bool) -> list[Any]:
    """Nothing is kept, nothing left out."""
    return records


class ListReader:
    """Reads the lists of one partner. Its threads may read several at once."""

    def __init__(
        self,
        session: CloudSession,
        root: str,
        query_limit: int,
        on_list: OnList = use_all,
    ) -> None:
        self._session = session
        self._root = root
        self._limit = query_limit
        self._on_list = on_list
        self._ends: set[str] = set()
        """Where lists were seen to end, as questions that need no asking in this run."""

    def read_by_offset(
        self,
        name: str,
        params: Mapping[str, str | int],
        read_rows: Callable[[list[parse.Row]], list[One]],
        reuse: Callable[[Sequence[One]], bool] = reuse_always,
        *,
        anew: bool = False,
    ) -> list[One]:
        """What is on every page of a bare array, each id once, in the cloud's order.

        `anew`: the cloud is asked whether it is still so, however short ago it was asked.

        A page shorter than asked is the last, unless its length may be a cap of the cloud: then
        the row after it is asked for. CloudError where the list cannot be read to its end.
        """
        found: dict[str, One] = {}
        ages: list[float] = []
        offset = longest = unread = 0
        while True:
            # Once a second page has brought rows, the first one's length is a cap.
            is_probe = 0 < offset == longest < self._limit
            asked = self._ask(name, params, offset, read_rows, reuse, is_probe, ages, anew)
            if asked is None:
                break
            page, rows = asked
            known = len(found)
            for one in rows:
                found.setdefault(one.id, one)
            unread += page.unread
            if not self._may_go_on(page.length, longest):
                break
            if offset and len(found) == known:
                self._note_repeated(name, offset, is_probe=is_probe)
                break
            longest = max(longest, page.length)
            offset += page.length
        self._session.note_unread(name, unread, len(found) + unread)
        is_whole = not unread and not params.keys() - _WITHOUT_CHOICE
        return self._on_list(name, list(found.values()), min(ages), is_whole=is_whole)

    def _may_go_on(self, length: int, longest: int) -> bool:
        """Whether more may follow a page: full, or as long as a cap may be.

        A page shorter than another of the same list was not cut short by a cap.
        """
        if length >= self._limit:
            return True
        may_be_cap = length > 0 and (length % _CAP_STEP == 0 or length >= _MANY)
        return may_be_cap and length >= longest

    def _ask(
        self,
        name: str,
        params: Mapping[str, str | int],
        offset: int,
        read_rows: Callable[[list[parse.Row]], list[One]],
        reuse: Callable[[Sequence[One]], bool],
        is_probe: bool,
        ages: list[float],
        anew: bool,
    ) -> tuple[parse.Page, list[One]] | None:
        """The page from a row on; None where a short page is known or found to be the last."""
        asked = dict(params)
        if self._limit != DEFAULT_QUERY_LIMIT:
            asked["limit"] = self._limit
        if offset:
            asked["offset"] = offset
        question = f"{name}?{urlencode(asked)}"
        if is_probe and question in self._ends:
            return None

        def read(body: Any) -> tuple[parse.Page, list[One]]:
            page = parse.parse_offset_page(body, name)
            return page, read_rows(page.rows)

        try:
            page, rows = self._session.get_json(
                f"{self._root}/{name}",
                asked,
                read=read,
                reuse=lambda found: reuse(found[1]) and found[0].unread == 0,
                least_s=lambda found: 0 if found[0].length or not is_probe else END_KEPT_S,
                on_age=ages.append,
                anew=anew and not is_probe,
            )
        except (BadRequestError, NotFoundError):
            if not is_probe:
                raise
            # ASSUMED that some clouds refuse to begin behind the end. To check: ask for the
            # gateways with an offset of their number.
        else:
            if page.length or not is_probe:
                return page, rows
        self._ends.add(question)
        return None

    def _note_repeated(self, name: str, offset: int, *, is_probe: bool) -> None:
        """A page brought nothing new. CloudError unless the one before it may have been all."""
        if not is_probe:
            raise CloudError(
                f"{name}: the cloud repeats a page (rows from {offset} on); "
                "the list cannot be read to its end."
            )
        self._session.warn(
            f"{name}: asked for rows from {offset} on, the cloud repeats the first {offset}; "
            "they are taken for all it has."
        )

    def read_by_next(
        self,
        name: str,
        is_row: Callable[[parse.Row], bool],
        read_rows: Callable[[list[parse.Row]], list[Newest]],
        subject: Callable[[Newest], str],
        *,
        anew: bool = False,
    ) -> list[Newest]:
        """What is on every page, of each subject the newest, in the cloud's order.

        `anew` as above. `next` is followed on the API host only, never in a ring.
        """

        def read(body: Any) -> tuple[parse.Page, list[Newest]]:
            page = parse.parse_next_page(body, name, is_row)
            return page, read_rows(page.rows)

        path = f"{self._root}/{name}"
        found: dict[str, Newest] = {}
        seen = {path}
        ages: list[float] = []
        empty = unread = 0
        while True:
            page, rows = self._session.get_json(
                path,
                read=read,
                reuse=lambda found: found[0].unread == 0,
                on_age=ages.append,
                anew=anew,
            )
            known = len(found)
            for row in rows:
                before = found.get(subject(row))
                if before is None or _is_newer(row, before):
                    found[subject(row)] = row
            unread += page.unread
            if page.following is None:
                self._session.note_unread(name, unread, len(found) + unread)
                return self._on_list(name, list(found.values()), min(ages), is_whole=not unread)
            empty = 0 if rows else empty + 1
            path = next_path(self._session.settings.api_url, path, page.following, name)
            is_stuck = bool(rows) and len(found) == known
            if path in seen or is_stuck or empty > _MOST_EMPTY_PAGES:
                raise CloudError(f"{name}: the cloud's pages go in a ring; the list has no end.")
            seen.add(path)


def _is_newer(one: Newest, other: Newest) -> bool:
    if one.time_utc is None or other.time_utc is None:
        return other.time_utc is None and one.time_utc is not None
    return one.time_utc > other.time_utc


def next_path(api_url: str, path: str, following: str, what: str) -> str:
    """The path and query of the next page, below /api/v2 like the page before it.

    `following` is a path with or without /api/v2, or an address on the API host. CloudError
    where it leads to another host.
    """
    origin = urlsplit(api_url)
    if following.startswith(("api/v2/", "partner/")):
        following = f"/{following}"
    try:
        found = urlsplit(urljoin(api_url + path, following))
        is_home = _host(found) == _host(origin) and "@" not in found.netloc
    except ValueError:
        raise CloudError(f"{what}: the cloud names a next page that is no address.") from None
    if not is_home:
        raise CloudError(f"{what}: the cloud names a next page on another host; not followed.")
    whole = found._replace(scheme="", netloc="", fragment="").geturl()
    whole = whole if whole.startswith("/") else f"/{whole}"
    whole = whole.removeprefix(origin.path) if origin.path else whole
    if path.startswith(f"{API_ROOT}/") and not whole.startswith(f"{API_ROOT}/"):
        whole = API_ROOT + whole
    return whole


def _host(parts: SplitResult) -> tuple[str | None, int | None] | None:
    """Host and port, the port of the scheme left out; None where it is not for HTTP.

    Whether it says http or https does not matter: the API's own scheme is used.
    """
    if parts.scheme not in _PORTS:
        return None
    return parts.hostname, None if parts.port == _PORTS[parts.scheme] else parts.port
