"""Kill a run of a folder at every step it takes on the disk, and look at what it left.

Run as a program with an empty folder and the number of a scenario; prints how many kills the
folder survived. A step is whatever the interpreter's audit hooks tell of (open, rename, remove,
mkdir) and each fsync.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from random import Random

from copper_cli.folders import manifest
from copper_cli.folders.entries import entry_to_json, render_manifest
from copper_cli.folders.manifest import Entry, Folder, Question

OLD = Question("meter usage", "2020-12-22", "2021-01-12", "hour")
NEW = replace(OLD, start="2021-03-01", end="2021-03-02")
OTHER = replace(OLD, granularity="day")
QUESTIONS = (OLD, NEW, OTHER)
NAMES = ("a.csv", "b.csv", "c.csv", "d.csv", "2021-03-01/e.csv", "2021-03-02/f.csv")
STRANGERS = {"notes.txt": "mine", "readme.csv": "mine too", ".hidden.draft": "mine as well"}
BOOKS = {"manifest.json", ".copper.lock"}


def text_of(name, question):
    return f"{name} {QUESTIONS.index(question)}"


def entry(question, name, state):
    return Entry(question, name.removesuffix(".csv"), state, rows=1)


def write(name, question):
    return "fetched", name, question


def carry_out(folder, steps):
    with Folder.open(folder) as opened:
        for state, name, question in steps:
            if state == "flush":
                opened.flush()
            elif state == "fetched":
                text = text_of(name, question)
                opened.write(name, [text[:2], text[2:]], entry(question, name, state))
            else:
                opened.record(name, entry(question, name, state))


def scenario(number):
    """What a first run does, and what a second one does, which is killed."""
    a, b, c, d, e, f = NAMES
    if number == 0:
        # Files written, one over an old answer; an old one found empty; two that fail.
        before = [write(a, OLD), write(c, OLD), write(e, OLD), ("failed", b, NEW)]
        run = [write(a, NEW), write(b, NEW), write(f, NEW)]
        run += [("empty", c, NEW), ("failed", d, NEW), ("failed", e, OLD)]
        return before, run
    chance = Random(number)
    states = ["fetched", "fetched", "fetched", "empty", "failed"]
    before = [(chance.choice(states), name, chance.choice(QUESTIONS)) for name in NAMES]
    run = [(chance.choice(states), name, chance.choice(QUESTIONS)) for name in NAMES]
    chance.shuffle(run)
    run.insert(chance.randint(1, 5), ("flush", "", OLD))
    return before, run


def prepare(folder, steps):
    carry_out(folder, steps)
    for name, text in STRANGERS.items():
        (folder / name).write_text(text)


def prepare_older(folder):
    """As the version before was killed: journal, stamps, draft, temporary file."""
    folder.mkdir()
    (folder / "2021-03-01").mkdir()

    def put(name, question):
        data = text_of(name, question).encode()
        (folder / name).write_bytes(data)
        return replace(entry(question, name, "fetched"), sha256=hashlib.sha256(data).hexdigest())

    a, b, c, d, e, f = NAMES
    listed = {name: put(name, OLD) for name in (a, c, e)}
    (folder / "manifest.json").write_text(render_manifest(listed))
    lines = [{"op": "open", "format": "copper-manifest", "version": 2}]
    for name in (a, b):
        told = entry_to_json(put(name, NEW))
        lines += [{"op": "write", "name": name, "entry": told}, {"op": "done", "name": name}]
    gone = entry_to_json(entry(NEW, c, "empty"))
    lines.append({"op": "remove", "name": c, "entry": gone, "old": listed[c].sha256})
    failed = entry_to_json(entry(NEW, d, "failed"))
    lines.append({"op": "record", "name": d, "entry": failed})
    never = entry_to_json(replace(entry(NEW, f, "fetched"), sha256="0" * 64))
    lines.append({"op": "write", "name": f, "entry": never})
    (folder / ".manifest.journal").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (folder / ".manifest.stamps").write_text("{}")
    (folder / ".b.csv.draft").write_text('["copper-draft 1", null]\n')
    (folder / "2021-03-01" / f".copper-folder-{'0' * 16}.tmp").write_text("half")
    for name, text in STRANGERS.items():
        (folder / name).write_text(text)


def run_until(run, folder, last_step):
    """In a child that kills itself before step `last_step`; True if it came to its end."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"kill {last_step}: the run ended with {code}")
        return code == 0
    left = last_step

    def step(event, arguments):
        nonlocal left
        if event in ("os.rename", "os.remove", "os.mkdir") or (
            event == "open" and str(folder) in str(arguments[0])
        ):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    real_sync = os.fsync

    def sync(handle):
        step("os.rename", ())
        real_sync(handle)

    sys.addaudithook(step)
    os.fsync = sync
    try:
        run()
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def verdicts(folder):
    return {
        (name, question): folder.check(name, question) for name in NAMES for question in QUESTIONS
    }


def inspect(folder, at):
    before = snapshot(folder)
    looked = verdicts(Folder.look(folder))
    if snapshot(folder) != before:
        raise SystemExit(f"kill {at}: looking changed the folder")
    with Folder.open(folder) as opened:
        found = verdicts(opened)
        told = {name: opened.state_of(name) for name in NAMES}
    # What the run did not come to replace is written anew by the next; nothing is unknown.
    if {"stranger", "changed", "missing"} & {*found.values(), *looked.values()}:
        raise SystemExit(f"kill {at}: {found} {looked}")
    for name, entry_found in told.items():
        path = folder / name
        text = path.read_text() if path.exists() else None
        if text not in (None, *(text_of(name, one) for one in QUESTIONS)):
            raise SystemExit(f"kill {at}: {name} holds {text!r}")
        expected = None
        if entry_found is not None and entry_found.sha256 is not None:
            if found[name, entry_found.question] == "behind":
                continue
            expected = text_of(name, entry_found.question)
        if text != expected:
            raise SystemExit(f"kill {at}: {name} holds {text!r}, the manifest says {expected!r}")
    left = set(snapshot(folder)) - {*NAMES, *STRANGERS, *BOOKS}
    if left:
        raise SystemExit(f"kill {at}: left {left}")
    if any((folder / name).read_text() != text for name, text in STRANGERS.items()):
        raise SystemExit(f"kill {at}: touched what is not ours")


def reopen(folder):
    Folder.open(folder).close()


def sweep(base, make, run):
    """Kill `run` at every step of it, and its successor at some of its own."""
    whole = base / "whole"
    make(whole)
    run(whole)
    at = 0
    while True:
        folder = base / f"kill-{at}"
        make(folder)
        is_done = run_until(lambda folder=folder: run(folder), folder, at)
        # The next run may be killed too, while it puts things in order.
        run_until(lambda folder=folder: reopen(folder), folder, at % 11)
        inspect(folder, at)
        run(folder)
        if snapshot(folder) != snapshot(whole):
            raise SystemExit(f"kill {at}: the folder differs after the next run")
        shutil.rmtree(folder)
        if is_done:
            return at
        at += 1


def main(base, number):
    manifest._FLUSH_FILES = 3
    manifest._FLUSH_S = 3600.0
    if number < 0:
        print(sweep(base, prepare_older, reopen))  # noqa: T201
        return
    before, run = scenario(number)
    print(  # noqa: T201
        sweep(
            base,
            lambda folder: prepare(folder, before),
            lambda folder: carry_out(folder, run),
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
