"""What the auth host answers: tokens, logins in a browser, logins by emailed code."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from html import escape
from urllib.parse import urlencode

from werkzeug import Request

from copper_cli.sandbox.answers import Answer, ApiError, AuthError, answer_json
from copper_cli.sandbox.auth import TokenDesk, check_login
from copper_cli.sandbox.clients import BROWSER_CLIENT, PublicClient
from copper_cli.sandbox.emailed import Postbox, check_emailed_client
from copper_cli.sandbox.exchange import Exchange

CODE_PAGE = "/api/v2/app"
"""Where the browser of a login is sent, on this server."""

BROWSER_USER = "user@example.com"
"""Who a browser is logged in as, without being asked."""

PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{text}"
)

_NO_STORE = {"Cache-Control": "no-store"}


class AuthHost:
    """The paths of the auth host, and the page where a browser lands; safe between threads.

    `tell` is given a line for the eyes of whoever runs the cloud: the emailed codes.
    """

    def __init__(self, desk: TokenDesk, tell: Callable[[str], None]) -> None:
        self._desk = desk
        self._postbox = Postbox(tell)
        self._paths: Mapping[str, tuple[tuple[str, ...], Handler]] = {
            "/oauth/token": (("POST",), self._exchange),
            "/authorize": (("GET",), self._authorize),
            "/passwordless/start": (("POST",), self._start),
            "/passwordless/verify": (("POST",), self._verify),
            "/passwordless/verify_redirect": (("GET",), self._redirect),
            CODE_PAGE: (("GET", "HEAD"), _show_code),
        }

    def find(self, path: str) -> Handler | None:
        """What answers a path, with or without a slash at its end; None: not its own path."""
        found = self._paths.get(path.removesuffix("/"))
        if found is None:
            return None
        methods, handle = found

        def answer(exchange: Exchange, now_s: float) -> Answer:
            if exchange.request.method not in methods:
                raise ApiError(405, "Method Not Allowed", "empty", {"Allow": ", ".join(methods)})
            return handle(exchange, now_s)

        return answer

    def _exchange(self, exchange: Exchange, now_s: float) -> Answer:
        fields = _read_fields(exchange.request)
        content = self._desk.exchange(fields, exchange.request.host_url, now_s)
        exchange.client_id = fields["client_id"]
        return _answer(content)

    def _authorize(self, exchange: Exchange, now_s: float) -> Answer:
        query = exchange.request.args
        client = check_login(query)
        code = self._desk.log_in(query, BROWSER_USER, now_s)
        return _send_back(exchange.request, client, {"code": code})

    def _start(self, exchange: Exchange, now_s: float) -> Answer:
        fields = _read_fields(exchange.request)
        email = self._postbox.send(fields, now_s)
        exchange.client_id = fields["client_id"]
        number = blake2b(email.encode(), digest_size=12).hexdigest()
        return _answer({"_id": number, "email": email, "email_verified": False})

    def _verify(self, exchange: Exchange, now_s: float) -> Answer:
        """ASSUMED: 200 and an object. To check: try a right code, and look at the answer."""
        fields = _read_fields(exchange.request)
        # auth0.js sends no client_id here
        if "client_id" in fields:
            check_emailed_client(fields)
        email = self._postbox.verify(fields, now_s, use_up=False)
        exchange.client_id = fields.get("client_id")
        return _answer({"email": email, "email_verified": True})

    def _redirect(self, exchange: Exchange, now_s: float) -> Answer:
        """A redirect with the login's code, or with the error where the emailed code is wrong.

        ASSUMED: that the error comes so, as in the redirects of `/authorize`. To check: try a
        wrong code, and look at where it sends one.
        """
        query = exchange.request.args
        check_emailed_client(query)
        client = check_login(query)
        exchange.client_id = client.id
        try:
            email = self._postbox.verify(query, now_s, use_up=True)
        except AuthError as error:
            told = {"error": "unauthorized", "error_description": str(error)}
            return _send_back(exchange.request, client, told)
        code = self._desk.log_in(query, email, now_s)
        return _send_back(exchange.request, client, {"code": code})


Handler = Callable[[Exchange, float], Answer]
"""What answers a request, by the clock's UTC seconds; raises ApiError and AuthError."""


def _read_fields(request: Request) -> dict[str, str]:
    """The fields of a body, JSON or form; the client's from HTTP Basic if there.

    A JSON null is no field. Raises AuthError.
    """
    if request.mimetype == "application/json":
        fields = _read_json(request.get_data())
    else:
        fields = request.form.to_dict()
    authorization = request.authorization
    if authorization and authorization.type == "basic":
        fields["client_id"] = authorization.username or ""
        fields["client_secret"] = authorization.password or ""
    return fields


def _read_json(body: bytes) -> dict[str, str]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AuthError(400, "invalid_request", "the body is no JSON object")
    # half a surrogate can be written in JSON but in no other way
    return {
        str(name): str(value).encode("utf-8", "replace").decode()
        for name, value in content.items()
        if value is not None
    }


def _send_back(request: Request, client: PublicClient, query: dict[str, str]) -> Answer:
    """A redirect to where the client waits, with the state it sent.

    A browser is sent to this server's own page: the true address is not here.
    """
    if "state" in request.args:
        query["state"] = request.args["state"]
    address = client.redirect_uri
    if client is BROWSER_CLIENT:
        address = request.host_url.rstrip("/") + CODE_PAGE
    headers = {"Location": f"{address}?{urlencode(query)}", **_NO_STORE}
    return Answer(302, headers=headers)


def _show_code(exchange: Exchange, now_s: float) -> Answer:
    """The page a browser lands on after the login; the code stands in its address, too."""
    code = exchange.request.args.get("code")
    text = f"<p>Your code is <code>{escape(code)}</code>" if code else "<p>There is no code here."
    page = PAGE.format(title="Copper Cloud sandbox", text=text)
    return Answer(200, page.encode(), "text/html; charset=utf-8", _NO_STORE)


def _answer(content: object) -> Answer:
    """200 with JSON which no cache keeps."""
    answer = answer_json(content)
    return Answer(200, answer.body, headers=_NO_STORE)
