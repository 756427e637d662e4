"""Measure time, memory and calls against floors measured in the same run.

    python scripts/bench.py                 everything: about 20 minutes
    python scripts/bench.py --quick         smaller sizes: some minutes
    python scripts/bench.py --only rows     one group; may be given several times

A line a measure: the floor, ours, their ratio and the target. Floor and ours take turns, and the
median of each counts, since machines are shared. The exit code is 0 whatever the ratios are.

The cloud is a process of its own that serves the sandbox's answers from memory: every question
is asked once before the clock runs. This process imports nothing of the package, so that the
peak memory of what it starts is that of the program.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.request import urlopen

COPPER = Path(sys.executable).with_name("copper")
RUNS = 5
LONG_S = 20.0
"""A run that takes longer is done three times only."""
ENDLESS_S = 120.0
"""And one that takes longer still, once."""
METERS_A_PREMISE = 25 / 12
"""The sandbox's pattern: twelve premises have 25 meters."""
LATENCY_S = 0.1
JOBS = 8
LAYOUTS = ("rows", "columns", "plain")
GROWING: Mapping[str, Sequence[str]] = {
    "report health": ("report", "health"),
    "bulk --detailed": ("bulk", "--detailed"),
    "meter status --detailed": ("meter", "status", "--detailed"),
    "report monthly": ("report", "monthly", "2022-01"),
}


LIMITS: Sequence[tuple[str, Mapping[str, object], str, str, str, int]] = (
    (
        "hour, a year, at most 31 days a call",
        {"max_span": {"hour": "31d"}},
        "2022-01-01",
        "2023-01-01",
        "hour",
        12,  # 365 / 31
    ),
    (
        "hour, 30 days, at most 7 days a call",
        {"max_span": {"hour": "7d"}},
        "2022-01-03",
        "2022-02-02",
        "hour",
        5,  # 30 / 7
    ),
    (
        "minute, a week, at most 2,880 rows a call",
        {"max_span": {"minute": "2879m"}},
        "2022-01-03",
        "2022-01-10",
        "minute",
        4,  # 10,080 / 2,879
    ),
    (
        "hour, 93 days, cut to 744 rows",
        {"cap_rows": 744},
        "2022-05-01",
        "2022-08-02",
        "hour",
        4,  # 2,232 / 743
    ),
)
"""What a cloud may grant a call, a range, and the calls that each meter needs for it."""


# What is measured, and how it is told


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    measure: str
    floor: str
    ours: str
    ratio: float
    target: float | None
    runs: int

    def cells(self) -> list[str]:
        """As the table shows them; without a target there is nothing to be ok."""
        target = "" if self.target is None else f"{self.target:.3g}"
        ok = "" if self.target is None else "yes" if self.ratio <= self.target else "NO"
        return [
            self.measure,
            self.floor,
            self.ours,
            f"{self.ratio:.2f}",
            target,
            ok,
            str(self.runs),
        ]


@dataclass(frozen=True)
class Sample:
    """One run of a program."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass
class Bench:
    """Where the figures go, and a place on the disk."""

    folder: Path
    quick: bool
    figures: list[Figure] = field(default_factory=list)
    names: int = 0

    def size(self, full: int, quick: int) -> int:
        """The size of a measure."""
        return quick if self.quick else full

    def place(self) -> Path:
        """A folder that does not exist yet."""
        self.names += 1
        return self.folder / f"{self.names:05d}"

    def add(
        self,
        measure: str,
        floor: str,
        ours: str,
        ratio: float,
        target: float | None,
        runs: int = 1,
    ) -> None:
        """Note a figure, and say it at once: a whole run takes long."""
        self.figures.append(Figure(measure, floor, ours, ratio, target, runs))
        print("  ".join(self.figures[-1].cells()), file=sys.stderr, flush=True)

    def add_times(
        self,
        measure: str,
        floor: Sequence[Sample],
        ours: Sequence[Sample],
        target: float | None,
    ) -> None:
        """A figure in seconds, from the medians."""
        a, b = (median(s.wall_s for s in samples) for samples in (floor, ours))
        self.add(measure, f"{a:.3f} s", f"{b:.3f} s", b / a, target, len(ours))

    def add_cpu(self, measure: str, floor: Sequence[Sample], ours: Sequence[Sample]) -> None:
        """A figure in seconds of processor time, which other programs disturb less."""
        a, b = (median(s.cpu_s for s in samples) for samples in (floor, ours))
        self.add(f"{measure}, processor", f"{a:.3f} s", f"{b:.3f} s", b / a, None, len(ours))

    def add_peaks(
        self, measure: str, floor: Sequence[Sample], ours: Sequence[Sample], target: float
    ) -> None:
        """A figure in megabytes, from the medians."""
        a, b = (median(s.peak_mb for s in samples) for samples in (floor, ours))
        self.add(measure, f"{a:.0f} MB", f"{b:.0f} MB", b / a, target, len(ours))


def run(command: Sequence[str | Path], env: Mapping[str, str]) -> Sample:
    """Run a program to its end; SystemExit with what it said where it fails."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            text = said.read().decode("utf-8", "replace")[-2000:]
            raise SystemExit(f"{' '.join(map(str, command))} ended {process.returncode}:\n{text}")
    to_mb = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Sample(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / to_mb)


def take_turns(*programs: Callable[[], Sample], quick: bool = False) -> list[list[Sample]]:
    """The samples of each program, run in turns; fewer of long ones."""
    samples: list[list[Sample]] = [[] for _ in programs]
    runs = 1
    while len(samples[0]) < runs:
        for found, program in zip(samples, programs, strict=True):
            found.append(program())
        longest = max(found[0].wall_s for found in samples)
        runs = 3 if longest > LONG_S or (quick and longest > 1) else RUNS
        runs = 1 if longest > ENDLESS_S else runs
    return samples


# The cloud, in a process of its own


@dataclass(frozen=True)
class Cloud:
    """A serving process."""

    url: str

    def environment(self, cache: Path) -> dict[str, str]:
        """What `copper` needs to ask it, with nothing of the user's own."""
        return {
            **plain_environment(),
            "HOME": str(cache),
            "COPPER_API_URL": self.url,
            "COPPER_AUTH_URL": self.url,
            "COPPER_CLIENT_ID": "sandbox-client",
            "COPPER_CLIENT_SECRET": "sandbox-secret",
            "COPPER_ENTERPRISE_ID": "sandbox-enterprise",
            "COPPER_CACHE_DIR": str(cache),
            "COPPER_ARCHIVE": f"{cache}.archive",
            "COPPER_QUOTA": "9000000/h",
        }

    def take_calls(self) -> list[tuple[float, float, str]]:
        """When each call came and was answered, and what it asked; then they are forgotten."""
        with urlopen(f"{self.url}/__calls__") as answer:
            return [(came, left, target) for came, left, target in json.load(answer)]


def plain_environment() -> dict[str, str]:
    """The environment of this process, without proxies and anything of COPPER_."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COPPER_") and not name.lower().endswith("_proxy")
    }


@contextmanager
def serving(
    meters: int, *, latency_s: float = 0.0, limits: Mapping[str, object] | None = None
) -> Iterator[Cloud]:
    """A cloud with at least that many meters; `limits` are settings of the sandbox."""
    premises = -(-meters * 12 // 25)
    told = [str(premises), str(latency_s), json.dumps(limits or {})]
    words = [sys.executable, __file__, "_serve", *told]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=plain_environment())
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit("The cloud of the benchmark did not start.")
        yield Cloud(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def serve(premises: str, latency_s: str, limits: str) -> None:
    """Serve the sandbox's answers, each made once and then kept as bytes; not those under limits.

    Where calls are counted, nothing is asked twice.
    """
    from socketserver import StreamRequestHandler, ThreadingTCPServer

    from copper_cli.sandbox import Sandbox, SandboxConfig

    config = SandboxConfig(
        premises=int(premises), quota=None, max_age=86400, missing_emails=0, **json.loads(limits)
    )
    application = Sandbox(config).application
    kept: dict[str, bytes] = {}
    calls: list[tuple[float, float, str]] = []

    def answer(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
        if target == "/__calls__":
            told = json.dumps(calls).encode()
            calls.clear()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told)
        if method != "GET":
            return call_wsgi(application, method, target, headers, body)
        came = time.time()
        time.sleep(float(latency_s))
        found = kept.get(target)
        if found is None:
            found = call_wsgi(application, method, target, headers, body)
            if limits == "{}":
                kept[target] = found
        calls.append((came, time.time(), target))
        return found

    class Handler(StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while line := self.rfile.readline():
                method, target, _ = line.decode().split()
                headers = {}
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                body = self.rfile.read(int(headers.get("content-length", 0)))
                self.wfile.write(answer(method, target, headers, body))

    class Server(ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def call_wsgi(
    application: Callable[..., object],
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
) -> bytes:
    """A whole HTTP/1.1 answer of a WSGI application, as it goes over the wire."""
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    builder = EnvironBuilder(path=target, method=method, headers=dict(headers), data=body)
    chunks, status, found = run_wsgi_app(application, builder.get_environ(), buffered=True)
    content = b"".join(chunks)
    found["Content-Length"] = str(len(content))
    head = "".join(f"{name}: {value}\r\n" for name, value in found.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content


# The groups


def measure_start(bench: Bench) -> None:
    """How long it takes until anything happens."""
    env = plain_environment() | {"HOME": str(bench.folder)}

    def ask(*words: str, credentials: bool = False) -> Sample:
        more = Cloud("http://127.0.0.1:9").environment(bench.place()) if credentials else {}
        return run([COPPER, *words], env | more)

    def floor() -> Sample:
        return run([sys.executable, "-c", "import click"], env)

    for program in (floor, lambda: ask("--help"), lambda: ask("quota", credentials=True)):
        program()  # so that the first does not pay for cold files
    rounds = [
        take_turns(floor, lambda: ask("--help"), lambda: ask("quota", credentials=True))
        for _ in range(4)
    ]
    imported, helped, told = ([s for turn in rounds for s in turn[i]] for i in range(3))
    bench.add_times("start: copper --help / import click", imported, helped, 1.8)
    bench.add_times("start: copper quota / import click", imported, told, 3.0)


def measure_calls(bench: Bench) -> None:
    """How many calls a download takes, against the fewest that could do."""
    spans = (
        ("hour, three weeks", "2022-01-03", "2022-01-24", "hour"),
        ("day, three weeks", "2022-01-03", "2022-01-24", "day"),
        ("month, two months", "2022-01-01", "2022-03-01", "month"),
        ("hour, a year", "2022-01-01", "2023-01-01", "hour"),
    )
    with serving(25) as cloud:
        for name, start, end, granularity in spans:
            words = ("meter", "usage", start, end, "--granularity", granularity)
            env = cloud.environment(bench.place())
            run([COPPER, *words, "--output-dir", bench.place()], env)
            asked = [target for _, _, target in cloud.take_calls() if "/usage?" in target]
            fewest = len({target.partition("?")[0] for target in asked})
            bench.add(f"calls: {name}", str(fewest), str(len(asked)), len(asked) / fewest, 1.0)
    for name, limits, start, end, granularity, fewest in LIMITS:
        with serving(bench.size(1000, 100), limits=limits) as cloud:
            count_calls(bench, cloud, name, (start, end, "--granularity", granularity), fewest)


def count_calls(bench: Bench, cloud: Cloud, name: str, words: Sequence[str], fewest: int) -> None:
    """The calls of a whole fleet, finding the cloud's limit out included.

    `fewest` is the number that each meter needs.
    """
    folder = bench.place()
    asking = ("meter", "usage", *words, "--layout", "plain", "--no-cache", "--jobs", str(JOBS))
    run([COPPER, *asking, "--output-dir", folder], cloud.environment(bench.place()))
    shutil.rmtree(folder)
    asked = [target for _, _, target in cloud.take_calls() if "/usage?" in target]
    meters = len({target.partition("?")[0] for target in asked})
    least = fewest * meters
    label = f"calls: {name}, {meters} meters"
    bench.add(label, str(least), str(len(asked)), len(asked) / least, 1.02)


def measure_rows(bench: Bench) -> None:
    """A month of minutes of many meters, against a loop that does the least.

    Each run lands its rows in an archive of its own, and publishes them as there are so many.
    """
    meters = bench.size(50, 5)
    words = ("meter", "usage", "2022-01-01", "2022-02-01", "--granularity", "minute")
    with serving(meters) as cloud:
        env = cloud.environment(bench.place())
        run([COPPER, *words, "--output-dir", bench.place()], env)
        targets = bench.place()
        asked = [target for _, _, target in cloud.take_calls() if "/usage?" in target]
        targets.write_text("\n".join(asked))

        def ours(layout: str, caching: str) -> Sample:
            cache, folder = bench.place(), bench.place()
            typed = [COPPER, *words, "--layout", layout, caching, "--output-dir", folder]
            try:
                return run(typed, cloud.environment(cache))
            finally:
                shutil.rmtree(folder)
                shutil.rmtree(cache, ignore_errors=True)
                shutil.rmtree(f"{cache}.archive")

        for layout in LAYOUTS:
            bare, off, on = take_turns(
                lambda layout=layout: run_loop(bench, cloud, targets, layout),
                lambda layout=layout: ours(layout, "--no-cache"),
                lambda layout=layout: ours(layout, "--cache"),
                quick=bench.quick,
            )
            name = f"rows: {len(asked)} × 44,641, {layout}"
            for caching, samples in (("off", off), ("on", on)):
                target = 1.3 if layout == "rows" else 1.6
                bench.add_times(f"{name}, cache {caching}", bare, samples, target)
                bench.add_cpu(f"{name}, cache {caching}", bare, samples)


def run_loop(bench: Bench, cloud: Cloud, targets: Path, layout: str) -> Sample:
    """The floor of rows, in a process of its own."""
    folder = bench.place()
    folder.mkdir()
    try:
        loop = [sys.executable, __file__, "_loop", cloud.url, targets, layout, folder]
        return run(loop, plain_environment())
    finally:
        shutil.rmtree(folder)


def loop_rows(url: str, targets: str, layout: str, folder: str) -> None:
    """The least that turns the same answers into CSV: the cloud's times, no checks, no books."""
    import csv

    import requests

    session = requests.Session()
    for number, target in enumerate(Path(targets).read_text().split("\n")):
        found = json.loads(session.get(url + target).content)
        about = [found["meter_id"], found["meter_type"], "kWh"]
        path = Path(folder) / f"{number}.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            for row in found["results"]:
                cells = [row["time"], row["usage"], row["power"]]
                if layout == "rows":
                    lead = ["usage_result__", *about, "America/Denver", "minute", "", "", ""]
                    writer.writerow([*lead, *cells, row["value"], row["actual"]])
                elif layout == "columns":
                    summary = [*about, found["sum_usage"]]
                    writer.writerow([*summary, *cells, row["value"], row["actual"]])
                else:
                    writer.writerow(cells)


def measure_latency(bench: Bench) -> None:
    """How well calls in flight at once hide a slow cloud."""
    meters = bench.size(200, 50)
    words = ("meter", "usage", "2022-01-03", "2022-01-24", "--jobs", str(JOBS))
    with serving(meters, latency_s=LATENCY_S) as cloud:
        spans: list[float] = []
        counts: list[int] = []

        def ours() -> Sample:
            env = cloud.environment(bench.place())
            sample = run([COPPER, *words, "--output-dir", bench.place()], env)
            calls = [call for call in cloud.take_calls() if "/usage?" in call[2]]
            spans.append(max(left for _, left, _ in calls) - min(came for came, _, _ in calls))
            counts.append(len(calls))
            return sample

        ours()
        spans.clear()
        (whole,) = take_turns(ours, quick=bench.quick)
    least = counts[0] * LATENCY_S / JOBS
    name = f"latency: {counts[0]} calls of {LATENCY_S * 1000:.0f} ms"
    took = median(spans)
    bench.add(
        f"{name}, first to last", f"{least:.2f} s", f"{took:.2f} s", took / least, 1.3, len(spans)
    )
    took = median(s.wall_s for s in whole)
    bench.add(
        f"{name}, whole command with start and lists",
        f"{least:.2f} s",
        f"{took:.2f} s",
        took / least,
        None,
        len(whole),
    )


def measure_memory(bench: Bench) -> None:
    """Peak memory of much data, against that of one call of it."""
    end = "2022-04-01" if bench.quick else "2023-01-01"

    def compare(
        name: str, cloud: Cloud, one: Sequence[str | Path], whole: Sequence[str | Path]
    ) -> None:
        def ask(words: Sequence[str | Path]) -> Sample:
            cache, folder = bench.place(), bench.place()
            try:
                return run([COPPER, *words, "--output-dir", folder], cloud.environment(cache))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(cache, ignore_errors=True)

        ask(whole)
        ask(one)
        floor, ours = take_turns(lambda: ask(one), lambda: ask(whole), quick=bench.quick)
        bench.add_peaks(name, floor, ours, 1.2)

    with serving(2) as cloud:
        run([COPPER, "meter", "status"], cloud.environment(bench.place()))
        env = cloud.environment(bench.place())
        run(
            [COPPER, "meter", "usage", "2022-01-03", "2022-01-04", "--output-dir", bench.place()],
            env,
        )
        target = cloud.take_calls()[-1][2]
        found = re.search(r"/meter/([^/]+)/usage", target)
        assert found is not None
        meter = found[1].replace("%3A", ":")
        usage = ("meter", "usage", "--meter-id", meter, "--granularity", "minute")
        one = (*usage, "2022-01-01", "2022-03-11")  # 69 days: 99,361 rows
        compare("memory: a year of minutes of one meter", cloud, one, (*usage, "2022-01-01", end))
    gateways = bench.size(500, 50)
    with serving(int(gateways * METERS_A_PREMISE)) as cloud:
        last = "2022-01-08" if bench.quick else "2022-01-31"
        grid = ("grid", "readings", "2022-01-01")
        name = f"memory: grid readings, {gateways} gateways, {last[-2:]} days"
        compare(name, cloud, (*grid, "2022-01-01"), (*grid, last))


def measure_growth(bench: Bench) -> None:
    """Whether a meter costs more in a large fleet than in a small one.

    In processor time of the command alone, less that for a fleet of two: neither the cloud's
    work nor that of others on the machine is in it.
    """
    sizes = (300, 3000) if bench.quick else (1000, 10_000, 100_000)
    with ExitStack() as stack:
        clouds = [stack.enter_context(serving(size)) for size in sizes]
        small = stack.enter_context(serving(2))
        for name, words in GROWING.items():
            programs = [
                lambda cloud=cloud, words=words: run(
                    [COPPER, *words, "--no-cache", "--output-dir", bench.folder / "legend"],
                    cloud.environment(bench.place()),
                )
                for cloud in (small, *clouds)
            ]
            for program in programs:
                program()
            base, *found = take_turns(*programs, quick=bench.quick)
            base_s = median(s.cpu_s for s in base)
            each = [
                (median(s.cpu_s for s in samples) - base_s) / size * 1e6
                for samples, size in zip(found, sizes, strict=True)
            ]
            for n in range(1, len(sizes)):
                bench.add(
                    f"growth: {name}, {sizes[n - 1]:,} to {sizes[n]:,} meters",
                    f"{each[n - 1]:.0f} µs a meter",
                    f"{each[n]:.0f} µs a meter",
                    each[n] / each[n - 1],
                    1.3,
                    len(found[n]),
                )


def measure_again(bench: Bench) -> None:
    """A finished folder: the same command again, against the start of one that does nothing."""
    meters = bench.size(10_000, 500)
    words = ("meter", "usage", "2022-01-03", "2022-01-04", "--granularity", "day")
    archive = bench.place()
    with serving(meters) as cloud:

        def ask(*typed: str | Path) -> Sample:
            # The lists are asked for each time, as after a day.
            env = cloud.environment(bench.place())
            return run([COPPER, *typed], env | {"COPPER_ARCHIVE": str(archive)})

        again = (*words, "--output-dir", bench.place())
        ask(*again)
        asked = [target for _, _, target in cloud.take_calls() if "/usage?" in target]
        time.sleep(3)  # files just written are read again until their times are old enough
        ask(*again)
        cloud.take_calls()
        ask(*again)
        calls = [target for _, _, target in cloud.take_calls()]
        lists = [target for target in calls if re.search(r"/(meter|premise)(\?|$)", target)]
        start, whole, dry = take_turns(
            lambda: ask("quota"), lambda: ask(*again), lambda: ask(*again, "--dry-run")
        )
    name = f"again: {len(asked)} finished meters"
    bench.add(f"{name}, calls", str(len(lists)), str(len(calls)), len(calls) / len(lists), 1.0)
    floor = median(s.wall_s for s in start)
    for what, samples in (("", whole), (", --dry-run", dry)):
        took = median(s.wall_s for s in samples)
        bench.add(
            f"{name}{what}, seconds beyond start",
            f"{floor:.2f} s",
            f"{took:.2f} s",
            took - floor,
            1.0,
            len(samples),
        )


def measure_archive(bench: Bench) -> None:
    """Rows that leave the landing for their months, against bare writes of the same columns.

    A year of hours, as two real series shifted and scaled; then 48 hours more of each meter into a
    month that is there.
    """
    meters = bench.size(1000, 100)
    env = plain_environment()

    def part(*words: str | Path) -> Sample:
        return run([sys.executable, __file__, *map(str, words)], env)

    source, landed, month = bench.place(), bench.place(), bench.place()
    part("_land", landed, source, meters, "year")
    part("_land", month, bench.place(), meters, "month")
    part("_publish", month)
    part("_land", month, bench.place(), meters, "night")
    (old,) = month.glob("usage/**/*.parquet")

    def ours(prepared: Path) -> Sample:
        folder = bench.place()
        shutil.copytree(prepared, folder)
        sample = part("_publish", folder)
        sizes[:] = [sum(file.stat().st_size for file in folder.glob("**/*.parquet"))]
        shutil.rmtree(folder)
        return sample

    def floor(*words: str | Path) -> Sample:
        folder = bench.place()
        folder.mkdir()
        sample = part(*words, folder)
        bare[:] = [sum(file.stat().st_size for file in folder.glob("*.parquet"))]
        shutil.rmtree(folder)
        return sample

    sizes: list[int] = []
    bare: list[int] = []
    name = f"archive: publish {meters:,} meters × a year of hours"
    written, published = take_turns(
        lambda: floor("_bare", source), lambda: ours(landed), quick=bench.quick
    )
    bench.add_times(name, written, published, 1.5)
    bench.add_cpu(name, written, published)
    size = sizes[0] / 1e6
    floor("_bare_one", source)
    ratio = size / (bare[0] / 1e6)
    bench.add(f"{name}, size", f"{bare[0] / 1e6:.1f} MB", f"{size:.1f} MB", ratio, 1.1)
    peaks = [median(s.peak_mb for s in samples) for samples in (written, published)]
    texts = [f"{peak:.0f} MB" for peak in peaks]
    bench.add(f"{name}, peak memory", *texts, peaks[1] / peaks[0], None, len(published))
    name = f"archive: a night of {meters:,} meters × 48 hours into its month"
    rewritten, merged = take_turns(
        lambda: floor("_bare_again", old), lambda: ours(month), quick=bench.quick
    )
    bench.add_times(name, rewritten, merged, 2.0)
    bench.add_cpu(name, rewritten, merged)
    for folder in (landed, month):
        shutil.rmtree(folder)
    measure_rendering(bench)


def measure_rendering(bench: Bench) -> None:
    """Files of published months without a call, against the loop that asks a cloud in memory."""
    meters = bench.size(1000, 120)  # with fewer nothing would be published
    words = ("meter", "usage", "2022-01-01", "2023-01-01", "--granularity", "hour")
    archive = bench.place()
    with serving(meters) as cloud:

        def ours() -> Sample:
            folder = bench.place()
            env = cloud.environment(bench.place()) | {"COPPER_ARCHIVE": str(archive)}
            try:
                return run([COPPER, *words, "--output-dir", folder], env)
            finally:
                shutil.rmtree(folder)

        ours()
        targets = bench.place()
        asked = [target for _, _, target in cloud.take_calls() if "/usage?" in target]
        targets.write_text("\n".join(asked))
        if not any(archive.glob("usage/**/*.parquet")):
            raise SystemExit("nothing was published")
        ours()
        if any("/usage?" in target for _, _, target in cloud.take_calls()):
            raise SystemExit("what is held was asked for again")
        bare, rendered = take_turns(
            lambda: run_loop(bench, cloud, targets, "rows"), ours, quick=bench.quick
        )
    name = f"archive: files of {len(asked):,} meters × a year of hours, no call"
    bench.add_times(name, bare, rendered, 1 / 3)
    bench.add_cpu(name, bare, rendered)


STATUS_S = 2.0
"""What `status` and `gaps` may take beyond the start of the program."""


def measure_status(bench: Bench) -> None:
    """Whether a fleet is whole: beyond what `quota` takes, which only starts and shows a table.

    A fleet in which each meter only waits for its newest hours, and one in which each has a hole of
    two hours that were never asked for and some that are missing: up to four ranges a meter.
    """
    meters = bench.size(100_000, 10_000)
    env = plain_environment() | {"HOME": str(bench.folder)}
    env |= Cloud("http://127.0.0.1:9").environment(bench.place())
    for kind in ("whole", "holes"):
        folder = bench.place()
        run([sys.executable, __file__, "_fleet", str(folder), str(meters), kind], env)

        def ask(*words: str, at: Path = folder) -> Sample:
            return run([COPPER, *words, "--archive", str(at)], env)

        for command in ("status", "gaps"):
            start, ours = take_turns(
                lambda: run([COPPER, "quota"], env),
                lambda command=command: ask(command),  # type: ignore[misc]
                quick=bench.quick,
            )
            for what in ("wall_s", "cpu_s"):
                before, after = (median(getattr(s, what) for s in one) for one in (start, ours))
                name = f"status: {command}, {meters:,} meters, {kind}, beyond start"
                if what == "cpu_s":
                    name += ", processor"
                taken = after - before
                target = 1.0 if what == "wall_s" and not bench.quick else None
                bench.add(
                    name,
                    f"{STATUS_S:.1f} s",
                    f"{taken:.2f} s",
                    taken / STATUS_S,
                    target,
                    len(ours),
                )
        shutil.rmtree(folder)


def cover_fleet(folder: str, meters: str, kind: str) -> None:
    """An archive in which a fleet was listed, and what is known of 400 days of hours of each."""
    from copper_cli.archive import Archive
    from copper_cli.archive.home import Marker, Owner, write_marker

    path, now_s = Path(folder), int(time.time()) // HOUR_S * HOUR_S
    start_s, count = (now_s - 400 * 24 * HOUR_S) // 86400 * 86400, int(meters)
    path.mkdir()
    owner = Owner("http://127.0.0.1", "fleet")
    write_marker(path, Marker("0" * 32, owner, "2022-01-01T00:00:00Z", "00" * 32))
    archive = Archive(path, archive_id="0" * 32)
    types, zones = ("power", "gas", "water"), ("America/New_York", "America/Denver", "UTC")

    def listed() -> Iterator[tuple[str, str, int, int, str]]:
        for n in range(count):
            about = {"type": types[n % 3], "state": "connected", "premise_id": f"p{n // 2}"}
            body = json.dumps(about | {"created_at": "2020-01-01T00:00:00Z", "uom": "kwh"})
            yield "meter", f"07:{n:08d}", start_s, now_s, body
        for n in range(count // 2 + 1):
            body = json.dumps({"name": "Home", "city_town": "Denver", "timezone": zones[n % 3]})
            yield "premise", f"p{n}", start_s, now_s, body

    def covered() -> Iterator[tuple[int, int, int, str, int, int]]:
        for n in range(count):
            last_s = now_s - (1 + n % 7) * HOUR_S
            a, b = (start_s + days * 86400 for days in (100 + n % 150, 300 + n % 50))
            bounds = [(start_s, a, "known"), (a, b, "known"), (b, last_s, "known")]
            bounds.append((last_s, now_s + HOUR_S, "null"))
            if kind == "holes":
                c = a + (1 + n % 40) * HOUR_S
                bounds = [(start_s, a, "known"), (a, c, "absent")]
                bounds += [(c + 2 * HOUR_S, b, "known"), (b, last_s, "known")]
            for place, (first_s, end_s, state) in enumerate(bounds):
                yield n + 1, first_s, end_s, state, now_s - place, (end_s - first_s) // HOUR_S

    with archive.transaction() as db:
        db.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", listed())
        db.execute("INSERT INTO notes VALUES ('list meter', ?)", (str(now_s),))
        db.executemany(
            "INSERT INTO series (id, subject, kind, granularity, grid)"
            " VALUES (?, ?, 'usage', 'hour', '0')",
            ((n + 1, f"07:{n:08d}") for n in range(count)),
        )
        db.executemany("INSERT INTO coverage VALUES (?, ?, ?, ?, ?, ?, 0)", covered())
    archive.close()


HOUR_S = 3600
YEAR_S = 1735689600
"""Where the year begins: 2025, UTC."""
YEAR_HOURS = 8760
SPANS: Mapping[str, tuple[int, int]] = {
    "year": (0, YEAR_HOURS),
    "month": (2160, 2160 + 720),
    "night": (2160 + 600, 2160 + 648),
}
"""From which hour of the year until which."""
BARE = "(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd)"


def land_rows(folder: str, source: str, meters: str, what: str) -> None:
    """An archive with rows that wait; the same rows as a table of DuckDB, as they landed."""
    import duckdb
    import numpy as np

    from copper_cli.archive import Archive, SeriesKey
    from copper_cli.buckets import Grid
    from copper_cli.records import Series

    first, last = SPANS[what]
    data = [read_series(name) for name in ("electricity-cdd-hdd", "gas-hdd-only")]
    Path(folder).mkdir(exist_ok=True)
    archive = Archive(Path(folder), archive_id="0" * 32)
    ends = [YEAR_S + HOUR_S * (hour + 1) for hour in range(first, last)]
    span = YEAR_S + HOUR_S * first, ends[-1]
    asked_s = YEAR_S + HOUR_S * (YEAR_HOURS + 2400 + 24 * (what == "night"))
    table = duckdb.connect(source)
    table.execute(
        'CREATE TABLE rows (meter_id VARCHAR, start TIMESTAMPTZ, "end" TIMESTAMPTZ,'
        " energy DOUBLE, power DOUBLE, value DOUBLE, actual BIGINT, actual_float DOUBLE,"
        " integers UTINYINT, grid VARCHAR)"
    )
    for number in range(int(meters)):
        year = np.roll(np.array(data[number % 2]), number * 37) * (0.5 + number % 7 / 5)
        energy = year.round(4)[first:last]
        if what == "night":
            energy = (energy * 1.01).round(4)
        value = (number * 13.37 + year.cumsum()[first:last]).round(2)
        actual = (value * 100).round().astype(np.int64)
        meter = f"07:{number * 7919 % 100003:016x}"
        columns = {"t": np.array(ends), "e": energy, "v": value, "a": actual}
        table.register("columns", columns)
        table.execute(
            "INSERT INTO rows SELECT ?, make_timestamptz((t - 3600) * 1000000),"
            " make_timestamptz(t * 1000000), e, e, v, a, NULL, 0, '0' FROM columns",
            [meter],
        )
        lists = [column.tolist() for column in (energy, energy, value, actual)]
        series = Series(ends, *lists, round(float(energy.sum()), 4), "power")
        key = SeriesKey(meter, "usage", "hour", "0")
        grid = Grid((YEAR_S, YEAR_S + HOUR_S * YEAR_HOURS), "hour")
        archive.land(key, span, series, buckets=grid, asked_s=asked_s)
    archive.close()
    table.close()


def read_series(name: str) -> list[float]:
    """A year of a real meter's hours."""
    import csv
    import gzip

    path = Path(__file__).parent.with_name("tests") / f"data/series/il-{name}-hourly.csv.gz"
    with gzip.open(path, "rt") as stream:
        rows = [float(row["value"] or 0) for row in csv.DictReader(stream)]
    return rows[:YEAR_HOURS]


def publish_rows(folder: str) -> None:
    """Publish what waits in an archive."""
    from copper_cli.archive import Archive

    archive = Archive(Path(folder), archive_id="0" * 32)
    archive.publish(force=True)
    if archive.unpublished():
        raise SystemExit("rows still wait")
    archive.close()


def write_bare(source: str, folder: str) -> None:
    """The same months, sorted by the library alone, from a table that lies on the disk."""
    import duckdb

    table = duckdb.connect(source, read_only=True)
    bounds = [int(datetime(2025, n + 1, 1, tzinfo=UTC).timestamp()) for n in range(12)]
    for number, (start_s, end_s) in enumerate(pairwise([*bounds, YEAR_S + HOUR_S * YEAR_HOURS])):
        table.execute(
            f"COPY (SELECT * FROM rows WHERE start >= make_timestamptz({start_s}000000)"
            f' AND start < make_timestamptz({end_s}000000) ORDER BY meter_id, grid, "end")'
            f" TO '{folder}/{number}.parquet' {BARE}"
        )


def write_bare_one(source: str, folder: str) -> None:
    """All rows in one file of eight columns."""
    import duckdb

    table = duckdb.connect(source, read_only=True)
    table.execute(
        'COPY (SELECT meter_id, start, "end", energy, power, value, actual, grid FROM rows'
        f" ORDER BY meter_id, \"end\") TO '{folder}/all.parquet' {BARE}"
    )


def write_bare_again(file: str, folder: str) -> None:
    """A month as it is, written anew."""
    import duckdb

    source = f"read_parquet('{file}', hive_partitioning=false)"
    duckdb.connect().execute(f"COPY (FROM {source}) TO '{folder}/new.parquet' {BARE}")


GROUPS: Mapping[str, Callable[[Bench], None]] = {
    "start": measure_start,
    "calls": measure_calls,
    "rows": measure_rows,
    "latency": measure_latency,
    "memory": measure_memory,
    "growth": measure_growth,
    "again": measure_again,
    "archive": measure_archive,
    "status": measure_status,
}
PARTS: Mapping[str, Callable[..., None]] = {
    "_serve": serve,
    "_loop": loop_rows,
    "_land": land_rows,
    "_publish": publish_rows,
    "_bare": write_bare,
    "_bare_one": write_bare_one,
    "_bare_again": write_bare_again,
    "_fleet": cover_fleet,
}
"""What this file does in processes of its own."""


def show(figures: Sequence[Figure]) -> None:
    """The table, as Markdown."""
    lines = [["measure", "floor", "ours", "ratio", "target", "ok", "runs"]]
    lines += [figure.cells() for figure in figures]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |")


def main() -> None:
    """Measure what is asked for."""
    if len(sys.argv) > 1 and sys.argv[1] in PARTS:
        PARTS[sys.argv[1]](*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(GROUPS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    typed = parser.parse_args()
    if not COPPER.exists():
        parser.exit(1, f"{COPPER} is missing: install the project beside this Python.\n")
    with tempfile.TemporaryDirectory(prefix="copper-bench-") as folder:
        bench = Bench(Path(folder), typed.quick)
        for name in typed.only or GROUPS:
            GROUPS[name](bench)
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, {os.cpu_count()} cores{', --quick' if typed.quick else ''}\n")
    show(bench.figures)


if __name__ == "__main__":
    main()
