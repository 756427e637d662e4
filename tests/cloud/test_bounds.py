"""An answer has bounds of size and time, whatever its encoding and whoever sends it."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
import zlib

import pytest

from copper_cli.cloud.events import Retrying
from copper_cli.cloud.token import TokenSource
from copper_cli.config import MAX_ANSWER_BYTES, parse_size, size_text
from copper_cli.errors import CloudError, UsageError

from .mini_cloud import Said, make_settings

PATH = "/api/v2/partner/ent/premise"
MOST = 100_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
}


@pytest.fixture
def stop():
    """Ends what a server sends without end."""
    event = threading.Event()
    yield event
    event.set()


def without_end(stop, piece: bytes, *, every_s: float = 0.0):
    """Goes on with the piece until the client hangs up."""

    def send(handler) -> None:
        try:
            while not stop.wait(every_s):
                handler.wfile.write(piece)
        except OSError:
            pass

    return send


def bomb(encode) -> Said:
    """A few kilobytes that stand for many megabytes."""
    return Said(body=encode(b" " * (64 << 20)))


def endless(stop) -> dict[str, Said]:
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n"
    sends = {
        "until it closes": (HEAD + b"\r\n", b" " * 65536),
        "in chunks": (chunked + b"\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n"),
        "of a length that is none": (HEAD + b"Content-Length: 1000000000\r\n\r\n", b" " * 65536),
        "of empty gzip": (HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"") * 1000),
        "of trailers": (chunked + b"\r\n2\r\n[]\r\n0\r\n", b"X: y\r\n" * 5000),
        "of a chunk's length": (chunked + b"\r\n", b"0" * 60000),
    }
    return {
        name: Said(raw=start, after=without_end(stop, piece))
        for name, (start, piece) in sends.items()
    }


ENDLESS = [*endless(threading.Event())]


@pytest.mark.parametrize("kind", ENDLESS[:-1])
def test_a_body_without_end_is_an_error_at_once(cloud, open_session, stop, kind):
    """One call, one line that says so and names the variable; however the end is hidden."""
    session = open_session(max_answer=MOST)
    cloud.say(PATH, default=endless(stop)[kind])
    with pytest.raises(
        CloudError, match=r"^premise: 127\.0\.0\.1 sent .* more than 100000 bytes"
    ) as e:
        session.get_json(PATH)
    assert "COPPER_MAX_ANSWER" in str(e.value)
    assert session.calls_used == 1
    assert not session.is_cached(PATH)


def test_a_chunk_whose_length_has_no_end(cloud, open_session, stop):
    """It is no body at all: tried again, within bounds each time."""
    session = open_session(max_answer=MOST)
    cloud.say(PATH, endless(stop)["of a chunk's length"], [])
    assert session.get_json(PATH) == []


@pytest.mark.parametrize("name", ENCODERS)
def test_a_compressed_body_takes_no_more_memory_than_its_bound(cloud, open_session, name):
    """64 MiB of blanks in some kilobytes, under a bound of 100,000 bytes: never held."""
    session = open_session(max_answer=MOST)
    said = bomb(ENCODERS[name])
    said.headers["Content-Encoding"] = name
    cloud.say(PATH, default=said)
    session._tokens.current()
    tracemalloc.start()
    try:
        with pytest.raises(CloudError, match="more than 100000 bytes"):
            session.get_json(PATH)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
    assert session.calls_used == 1


@pytest.mark.parametrize("name", ["", *ENCODERS])
def test_the_bound_itself_is_allowed(cloud, open_session, name):
    """100,000 bytes are read whatever the encoding; one more is not."""
    text = json.dumps(["x" * (MOST - 4)]).encode()
    encode = ENCODERS.get(name, bytes)
    headers = {"Content-Encoding": name} if name else {}
    cloud.say(PATH, Said(body=encode(text), headers=headers))
    cloud.say(PATH + "2", Said(body=encode(text + b" "), headers=headers))
    session = open_session(max_answer=MOST)
    assert session.get_json(PATH) == ["x" * (MOST - 4)]
    with pytest.raises(CloudError, match="more than 100000 bytes"):
        session.get_json(PATH + "2")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [2, 65_535, 65_536, 65_537, 1_000_000])
def test_compressed_answers_are_whole(cloud, open_session, name, size):
    """To the last byte, also where the text is a multiple of what is made at once."""
    text = b"[" + b" " * (size - 2) + b"]"
    cloud.say(PATH, Said(body=ENCODERS[name](text), headers={"Content-Encoding": name}))
    session = open_session()
    found = session.get_json(PATH, read=lambda body: body)
    assert found == []


def test_several_gzip_streams_are_one_answer(cloud, open_session):
    """As some gateways write them; zeros after the end are padding."""
    body = gzip.compress(b"[1,") + gzip.compress(b"2]") + b"\0" * 100
    cloud.say(PATH, Said(body=body, headers={"Content-Encoding": "gzip"}))
    assert open_session().get_json(PATH) == [1, 2]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_compressed_body_cut_short_is_tried_again(cloud, open_session, name):
    """Though all of its text is there, and the length is the one announced."""
    whole = ENCODERS[name](b"[1, 2, 3]" + b" " * 1000)
    headers = {"Content-Encoding": name}
    cloud.say(PATH, Said(body=whole[:-1], headers=headers), Said(body=whole, headers=headers))
    session = open_session()
    assert session.get_json(PATH) == [1, 2, 3]
    assert session.calls_used == 2


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip", "none"])
def test_another_encoding_is_an_error(cloud, open_session, name):
    """Nobody asked for it, and trying again would not mend it."""
    cloud.say(PATH, default=Said(body=b"[]", headers={"Content-Encoding": name}))
    session = open_session()
    with pytest.raises(CloudError, match="encoding that was not asked for") as caught:
        session.get_json(PATH)
    assert name in str(caught.value)
    assert session.calls_used == 1


def test_only_what_is_read_is_asked_for(cloud, open_session):
    """By the API's calls and the token's, whatever else is installed."""
    cloud.say(PATH, [])
    open_session().get_json(PATH)
    asked = {one.headers["Accept-Encoding"] for one in (*cloud.asked, *cloud.token_asked)}
    assert asked == {"gzip, deflate"}


def test_an_error_page_without_end_is_still_that_error(cloud, open_session, stop):
    """A 503 is tried again whatever follows it; no more than an excerpt is read."""
    session = open_session(max_answer=MOST)
    head = b"HTTP/1.1 503 Busy\r\n\r\n"
    cloud.say(PATH, Said(raw=head, after=without_end(stop, b"busy " * 10_000)), [])
    assert session.get_json(PATH) == []
    assert "answered 503: busy busy" in _reasons(session)[0]


# The head


HEADS = {
    "endless 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "endless 100 Continue with headers": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * 1000,
    "endless headers": b"X-Odd: " + b"y" * 50 + b"\r\n",
    "an endless header": b"y" * 65536,
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_without_end_is_an_error_at_once(cloud, open_session, stop, kind):
    """Status lines and headers are bounded too, at a far smaller size: one call."""
    start = b"" if "100" in kind else HEAD
    cloud.say(PATH, default=Said(raw=start, after=without_end(stop, HEADS[kind])))
    session = open_session()
    with pytest.raises(CloudError, match=r"^premise: 127\.0\.0\.1 sent more headers than any"):
        session.get_json(PATH)
    assert session.calls_used == 1


SLOW = {
    "a header": (HEAD + b"X-Slow: ", b"y"),
    "a status line": (b"HTTP/1.1 200 ", b"O"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": (HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_try_ends_within_two_timeouts(cloud, open_session, stop, kind):
    """A piece every few milliseconds is never silent, and yet it ends: tried again."""
    start, piece = SLOW[kind]
    session = open_session(timeout_s=0.3)
    session._tokens.current()
    said = Said(raw=start, after=without_end(stop, piece, every_s=0.02))
    cloud.say(PATH, said, [{"id": "p"}])
    began = time.monotonic()
    assert session.get_json(PATH) == [{"id": "p"}]
    assert 0.3 < time.monotonic() - began < 0.6 + 0.5
    assert session.calls_used == 2


def test_what_keeps_coming_may_take_longer(cloud, open_session, stop):
    """A second more for each MiB: 3 MiB in one second pass with a timeout of a tenth."""
    piece = b" " * (1 << 18)

    def send(handler) -> None:
        for _ in range(12):
            handler.wfile.write(piece)
            stop.wait(0.04)
        handler.wfile.write(b"[]")

    session = open_session(timeout_s=0.15)
    session._tokens.current()
    cloud.say(PATH, Said(raw=HEAD + b"\r\n", after=send))
    assert session.get_json(PATH) == []
    assert session.calls_used == 1


# Tokens


@pytest.mark.parametrize("kind", ["until it closes", "in chunks", "of trailers"])
def test_a_token_without_end_is_an_error_at_once(cloud, tmp_path, clock, stop, kind):
    """Token calls keep the same bounds."""
    cloud.token_queue = [endless(stop)[kind]] * 5
    source = TokenSource(make_settings(cloud.url, tmp_path, max_answer=MOST), "enterprise", clock)
    with pytest.raises(CloudError, match=r"^No token: 127\.0\.0\.1 sent .* more than 100000 bytes"):
        source.current()
    assert len(cloud.token_asked) == 1


def test_a_token_that_trickles_is_tried_again(cloud, tmp_path, clock, stop):
    """A header of a byte now and then does not hold a run up."""
    start, piece = SLOW["a header"]
    cloud.token_queue = [Said(raw=start, after=without_end(stop, piece, every_s=0.02))]
    source = TokenSource(make_settings(cloud.url, tmp_path, timeout_s=0.3), "enterprise", clock)
    began = time.monotonic()
    assert source.current().value == "t2"
    assert time.monotonic() - began < 0.6 + 0.5


# The bound itself


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1000000", 1_000_000),
        ("64MiB", 64 << 20),
        (" 64 mib ", 64 << 20),
        ("2KiB", 2048),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes(text, size):
    """Bytes, or a number of KiB, MiB or GiB."""
    assert parse_size("COPPER_MAX_ANSWER", text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "64MB", "64M", "inf", "nan", "1e9", "x", "٣"]
)
def test_what_is_no_size(text):
    """Said with the variable's name."""
    with pytest.raises(UsageError, match="COPPER_MAX_ANSWER"):
        parse_size("COPPER_MAX_ANSWER", text)


def test_the_bound_is_256_mib_unless_said(settings):
    """As the documents say."""
    assert settings.max_answer == MAX_ANSWER_BYTES == 268_435_456
    assert size_text(MAX_ANSWER_BYTES) == "256 MiB"
    assert size_text(1000) == "1000 bytes"


def _reasons(session) -> list[str]:
    return [event.reason for event in session.events if isinstance(event, Retrying)]
