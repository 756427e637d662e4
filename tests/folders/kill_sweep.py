"""Kill a run of a folder at every step it takes on the disk, and look at what it left.

Run as a program with an empty folder; prints how many kills the folder survived. A step is
whatever the interpreter's audit hooks tell of (open, rename, remove) and each fsync.
"""

import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

from copper_cli.folders.manifest import Entry, Folder, Question

OLD = Question("meter usage", "2020-12-22", "2021-01-12", "hour")
NEW = Question("meter usage", "2021-03-01", "2021-03-02", "hour")
OLD_TEXT = {"a.csv": "old a", "c.csv": "old c", "e.csv": "old e"}
NEW_TEXT = {"a.csv": "new a", "b.csv": "new b"}
STRANGERS = {"notes.txt": "mine", "readme.csv": "mine too"}


def entry(question, name, state):
    return Entry(question, name.removesuffix(".csv"), state, rows=1)


def prepare(folder):
    with Folder.open(folder) as opened:
        for name, text in OLD_TEXT.items():
            opened.write(name, [text], entry(OLD, name, "fetched"))
    for name, text in STRANGERS.items():
        (folder / name).write_text(text)


def run(folder):
    """Two files written, one over an old answer; an old one found empty; two that fail."""
    with Folder.open(folder) as opened:
        for name, text in NEW_TEXT.items():
            opened.write(name, [text[:2], text[2:]], entry(NEW, name, "fetched"))
        opened.record("c.csv", entry(NEW, "c.csv", "empty"))
        opened.record("d.csv", entry(NEW, "d.csv", "failed"))
        opened.record("e.csv", entry(OLD, "e.csv", "failed"))


def run_until(folder, last_step):
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
        if event in ("os.rename", "os.remove") or (
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
        run(folder)
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_whole(folder, name):
    """Every file holds one of the texts it may hold, or is not there."""
    path = folder / name
    allowed = {OLD_TEXT.get(name), NEW_TEXT.get(name)} - {None}
    return not path.exists() or path.read_text() in allowed


def verdicts(folder):
    return {
        (name, question.start): folder.check(name, question)
        for name in ("a.csv", "b.csv", "c.csv", "d.csv", "e.csv")
        for question in (OLD, NEW)
    }


def inspect(folder, at):
    before = snapshot(folder)
    looked = verdicts(Folder.look(folder))
    if snapshot(folder) != before:
        raise SystemExit(f"kill {at}: looking changed the folder")
    with Folder.open(folder) as opened:
        found = verdicts(opened)
        told = {
            name: opened.state_of(name) for name in ("a.csv", "b.csv", "c.csv", "d.csv", "e.csv")
        }
    # What the run did not come to replace is written anew by the next; nothing is unknown.
    bad = {"stranger", "changed", "missing"}
    if bad & {*found.values(), *looked.values()}:
        raise SystemExit(f"kill {at}: {found} {looked}")
    for name, entry_found in told.items():
        if not is_whole(folder, name):
            raise SystemExit(f"kill {at}: half of {name}")
        text = (folder / name).read_text() if (folder / name).exists() else None
        expected = None
        if entry_found is not None and entry_found.sha256 is not None:
            is_new = entry_found.question == NEW and found[name, NEW.start] != "behind"
            expected = (NEW_TEXT if is_new else OLD_TEXT)[name]
        if text != expected:
            raise SystemExit(f"kill {at}: {name} holds {text!r}, the manifest says {expected!r}")
    names = set(snapshot(folder)) - set(OLD_TEXT) - set(NEW_TEXT) - set(STRANGERS)
    if not names <= {"manifest.json", ".copper.lock"}:
        raise SystemExit(f"kill {at}: left {names}")
    if any((folder / name).read_text() != text for name, text in STRANGERS.items()):
        raise SystemExit(f"kill {at}: touched what is not ours")


def main(base):
    whole = base / "whole"
    prepare(whole)
    run(whole)
    at = 0
    while True:
        folder = base / f"kill-{at}"
        prepare(folder)
        is_done = run_until(folder, at)
        inspect(folder, at)
        run(folder)
        for name in ("manifest.json", "a.csv", "b.csv", "e.csv"):
            if (folder / name).read_bytes() != (whole / name).read_bytes():
                raise SystemExit(f"kill {at}: {name} differs after the next run")
        shutil.rmtree(folder)
        if is_done:
            print(at)  # noqa: T201
            return
        at += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
