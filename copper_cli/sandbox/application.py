"""The WSGI application: auth, quota, faults, routing, caching headers, compression, log."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from email.utils import formatdate
from hashlib import blake2b
from threading import Event
from typing import TYPE_CHECKING, Any

from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.http import parse_etags
from werkzeug.routing import Map, Rule

from copper_cli.sandbox.answers import (
    Answer,
    ApiError,
    AuthError,
    Call,
    answer_error,
    answer_json,
)
from copper_cli.sandbox.auth import Api, Grant, TokenDesk
from copper_cli.sandbox.config import SandboxConfig
from copper_cli.sandbox.endpoints import Endpoints, cut_rows
from copper_cli.sandbox.exchange import Exchange
from copper_cli.sandbox.faults import Fault, FaultBook
from copper_cli.sandbox.fleet import Fleet
from copper_cli.sandbox.journal import Journal, RequestRecord, hide_secrets
from copper_cli.sandbox.logins import PAGE, AuthHost
from copper_cli.sandbox.quota import Quota

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

API_ROOT = "/api/v2"
CONTROL_ROOT = "/__sandbox__"
GZIP_FROM = 500
"""Bodies shorter than this are not worth compressing."""

_PARTNER = f"{API_ROOT}/partner/<enterprise_id>"
_APP = f"{API_ROOT}/app"


class Application:
    """A local Copper Cloud as a WSGI callable; safe between threads.

    Faults that break the connection show as a ConnectionResetError (`reset`), a body shorter
    than its Content-Length (`cut`) or an unfinished chunked body (`cut-chunked`).
    """

    def __init__(
        self,
        *,
        config: SandboxConfig,
        fleet: Fleet,
        clock: Callable[[], datetime],
        token_clock: Callable[[], datetime],
        quota: Quota,
        quota_clock: Callable[[], float],
        faults: FaultBook,
        journal: Journal,
        stopped: Event,
        tell: Callable[[str], None],
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._clock = clock
        self._token_clock = token_clock
        self._quota = quota
        self._quota_clock = quota_clock
        self._faults = faults
        self._journal = journal
        self._stopped = stopped
        self._desk = TokenDesk(config)
        self._auth_host = AuthHost(self._desk, tell)
        self._endpoints = Endpoints(config, fleet)
        self._routes = self._make_routes()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request; raises ConnectionResetError for a `reset` fault."""
        request = Request(environ)
        if request.path.startswith(CONTROL_ROOT + "/"):
            return _as_response(self._control(request))(environ, start_response)
        if self._config.latency_ms:
            self._stopped.wait(self._config.latency_ms / 1000)
        exchange = Exchange(request)
        answer = self._answer(exchange)
        fault = exchange.fault
        if fault and fault.kind == "reset":
            self._note(exchange, None, 0)
            raise ConnectionResetError("a fault resets this connection")
        response = _as_response(answer, request.headers.get("Accept-Encoding", ""))
        if fault and fault.kind in ("cut", "cut-chunked"):
            _cut(response, fault.kind)
        self._note(exchange, answer.status, len(response.get_data()))
        return response(environ, start_response)

    # ---- the way of a request

    def _answer(self, exchange: Exchange) -> Answer:
        try:
            return self._route(exchange)
        except (ApiError, AuthError) as error:
            return error.answer

    def _route(self, exchange: Exchange) -> Answer:
        request = exchange.request
        handle = self._auth_host.find(request.path)
        if handle is not None:
            exchange.is_token = True
            now_s = self._token_clock().timestamp()
            return self._befall(exchange, lambda: handle(exchange, now_s))
        grant = self._check_token(request)
        exchange.client_id = grant.client_id
        now_s = self._quota_clock()
        wait_s = self._quota.admit(grant.client_id, now_s)
        if wait_s is not None:
            headers = {"Retry-After": str(wait_s)} if self._config.retry_after else {}
            raise ApiError(429, "Too Many Requests", "text", headers)
        answer = self._befall(exchange, lambda: self._call(exchange, grant))
        if answer.status == 429:
            self._quota.release(grant.client_id, now_s)
        return answer

    def _check_token(self, request: Request) -> Grant:
        authorization = request.authorization
        token = authorization.token if authorization else None
        is_bearer = authorization is not None and authorization.type == "bearer"
        now_s = self._token_clock().timestamp()
        grant = self._desk.check(token, now_s) if token and is_bearer else None
        if grant is None:
            raise ApiError(401, "Unauthorized: bad or expired token", "json", _CHALLENGE)
        return grant

    def _call(self, exchange: Exchange, grant: Grant) -> Answer:
        """The endpoint's answer, with its ETag and Cache-Control, or a 304 instead."""
        request = exchange.request
        try:
            handle, matched = self._routes.bind_to_environ(request.environ).match()
        except MethodNotAllowed as error:
            allow = ", ".join(error.valid_methods or ())
            raise ApiError(405, "Method Not Allowed", "empty", {"Allow": allow}) from None
        except HTTPException:
            raise ApiError(404, f"no endpoint {request.path}", "text") from None
        values = dict(matched)
        api: Api = "partner" if "enterprise_id" in values else "app"
        enterprise_id = values.pop("enterprise_id", self._config.enterprise_id)
        if grant.api != api or enterprise_id != self._config.enterprise_id:
            raise ApiError(403, "Forbidden: no permission for this resource", "text")
        call = Call(grant.client_id, request.path, request.args, int(self._clock().timestamp()))
        answer: Answer = handle(call, **values)
        return self._make_conditional(request, answer, api)

    def _make_conditional(self, request: Request, answer: Answer, api: Api) -> Answer:
        etag = blake2b(answer.body, digest_size=12).hexdigest()
        headers = {"ETag": f'W/"{etag}"'}
        seconds = self._config.caching_seconds(api == "app")
        if seconds:
            headers["Cache-Control"] = f"max-age={seconds}"
        known = request.headers.get("If-None-Match")
        if known and parse_etags(known).contains_weak(etag):
            return Answer(304, headers=headers)
        return replace(answer, headers=headers)

    # ---- faults

    def _befall(self, exchange: Exchange, answer: Callable[[], Answer]) -> Answer:
        """The answer, or what the fault whose turn it is makes of it."""
        fault = exchange.fault = self._faults.take(exchange.target)
        if fault is None:
            return answer()
        if fault.kind in _SAYINGS:
            return _SAYINGS[fault.kind](fault)
        if fault.kind == "status":
            return self._refuse(fault)
        if fault.kind == "revoke":
            return self._revoke(exchange.request)
        if fault.kind == "hang":
            self._stopped.wait(fault.seconds)
        return _spoil(fault, answer())

    def _refuse(self, fault: Fault) -> Answer:
        headers = {}
        if fault.retry_after is not None:
            until_s = self._quota_clock() + fault.retry_after
            date = formatdate(until_s, usegmt=True)
            headers["Retry-After"] = date if fault.retry_after_date else str(fault.retry_after)
        return answer_error(fault.status, "a fault of the sandbox", fault.body, headers)

    def _revoke(self, request: Request) -> Answer:
        if request.authorization and request.authorization.token:
            self._desk.revoke(request.authorization.token)
        return answer_error(401, "Unauthorized: token revoked", "json", _CHALLENGE)

    # ---- the control plane

    def _control(self, request: Request) -> Answer:
        """For tests in other processes: no token, no quota, no record."""
        what = (request.method, request.path.removeprefix(CONTROL_ROOT).removesuffix("/"))
        if what == ("GET", "/stats"):
            return answer_json(self._count())
        if what == ("GET", "/log"):
            return answer_json([asdict(record) for record in self._journal.list_records()])
        if what == ("POST", "/faults"):
            return self._add_faults(request)
        if what == ("POST", "/reset"):
            self._faults.clear()
            self._quota.clear()
            self._journal.clear()
            self._endpoints.forget_users()
            return answer_json(self._count())
        return answer_error(404, "there are stats, log, faults and reset", "text")

    def _count(self) -> dict[str, Any]:
        return {
            "calls": self._journal.calls,
            "token_calls": self._journal.token_calls,
            "quota": self._quota.used(self._quota_clock()),
            "faults": [asdict(fault) for fault in self._faults.left()],
            "premises": self._fleet.premise_count,
            "meters": self._fleet.meter_count,
            "gateways": self._fleet.gateway_count,
            "now": self._clock().astimezone(UTC).isoformat(),
        }

    def _add_faults(self, request: Request) -> Answer:
        """Adds the faults of `{"faults": ["status=500,…", …]}`: all of them or, on 400, none."""
        try:
            texts = json.loads(request.get_data())["faults"]
            faults = [Fault.parse(text) for text in texts]
        except (ValueError, KeyError, TypeError) as error:
            return answer_error(400, f'send {{"faults": ["status=500,…"]}}: {error}', "text")
        for fault in faults:
            self._faults.add(fault)
        return answer_json(self._count())

    # ---- what they share

    def _note(self, exchange: Exchange, status: int | None, length: int) -> None:
        request = exchange.request
        record = RequestRecord(
            time=datetime.fromtimestamp(self._quota_clock(), UTC).isoformat(),
            method=request.method,
            path=request.path,
            query=hide_secrets(request.query_string.decode("latin-1")),
            status=status,
            client_id=exchange.client_id,
            bytes=length,
            fault=exchange.fault.kind if exchange.fault else None,
        )
        self._journal.add(record, is_token=exchange.is_token)

    def _make_routes(self) -> Map:
        ends = self._endpoints
        paths = {
            f"{_PARTNER}/premise": ends.list_premises,
            f"{_PARTNER}/meter": ends.list_meters,
            f"{_PARTNER}/gateway": ends.list_gateways,
            f"{_PARTNER}/gateway/history": ends.list_gateway_histories,
            f"{_PARTNER}/bulk": ends.list_bulk,
            f"{_PARTNER}/grid/latest": ends.list_grid_latest,
            f"{_PARTNER}/grid/readings": ends.list_grid_readings,
            f"{_PARTNER}/meter/<meter_id>/location": ends.show_location,
            f"{_PARTNER}/meter/<meter_id>/usage": ends.show_usage,
            f"{_PARTNER}/meter/<meter_id>/baseline-series": ends.show_baseline,
            f"{_PARTNER}/meter/<meter_id>/average-series": ends.show_average,
            f"{_PARTNER}/meter/<meter_id>/readings": ends.list_readings,
            f"{_PARTNER}/aggregate/usage": ends.sum_usage,
            f"{_APP}/state": ends.show_state,
            f"{_APP}/instant/<premise_id>": ends.show_instant,
            f"{_APP}/usage/<meter_id>": ends.show_app_usage,
            f"{_APP}/baseline-series/<meter_id>": ends.show_app_baseline,
            f"{_APP}/average-series/<meter_id>": ends.show_app_average,
        }
        rules = [Rule(path, endpoint=end, methods=["GET"]) for path, end in paths.items()]
        return Map(rules, strict_slashes=False, merge_slashes=False, redirect_defaults=False)


_CHALLENGE = {"WWW-Authenticate": "Bearer"}


def _say_html(fault: Fault) -> Answer:
    page = PAGE.format(title="Just a moment", text="<p>This is a page, not an answer.</p>")
    return Answer(200, page.encode(), "text/html; charset=utf-8")


def _say_redirect(fault: Fault) -> Answer:
    return Answer(302, headers={"Location": fault.location})


def _say_nothing(fault: Fault) -> Answer:
    return Answer(200)


_SAYINGS: Mapping[str, Callable[[Fault], Answer]] = {
    "html": _say_html,
    "redirect": _say_redirect,
    "reset": _say_nothing,
}


def _spoil(fault: Fault, answer: Answer) -> Answer:
    """What `cut-json` and `fewer-rows` make of a true answer; errors stay as they are."""
    if fault.kind == "cut-json" and answer.status == 200:
        return replace(answer, body=answer.body[: len(answer.body) // 2], headers={})
    if fault.kind == "fewer-rows" and answer.status == 200:
        return replace(answer, body=cut_rows(answer.body, fault.rows), headers={})
    return answer


def _as_response(answer: Answer, accepted: str = "") -> Response:
    """The answer as HTTP, gzipped where that is accepted and worth it."""
    response = Response(answer.body, answer.status, dict(answer.headers))
    if answer.body:
        response.content_type = answer.content_type
    if len(answer.body) >= GZIP_FROM:
        response.vary.add("Accept-Encoding")
        if "gzip" in accepted.lower():
            # the fastest level: an answer of 100,000 rows must not wait for its compression
            response.set_data(gzip.compress(answer.body, 1, mtime=0))
            response.headers["Content-Encoding"] = "gzip"
    return response


def _cut(response: Response, kind: str) -> None:
    """Leaves half of the body, under its true length or as one chunk with none to close it."""
    body = response.get_data()
    half = body[: len(body) // 2]
    if kind == "cut":
        response.response = [half]
        response.headers["Content-Length"] = str(len(body))
        return
    response.response = [f"{len(half):x}\r\n".encode(), half, b"\r\n"]
    response.automatically_set_content_length = False
    response.headers.pop("Content-Length", None)
    response.headers["Transfer-Encoding"] = "chunked"
