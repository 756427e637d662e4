import errno
import hashlib
import io
import os
import re
import stat
import sys
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from copper_cli.errors import CloudError, LocalError, UsageError
from copper_cli.files import whole as files
from copper_cli.files.names import check_name, safe_name
from copper_cli.files.opening import digest_file
from copper_cli.files.whole import make_folder, renew_whole, sync_folder, write_whole

HELLO_SHA256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("identifier", "suffix", "name"),
    [
        ("07:57277300", ".usage.csv", "07_57277300.usage.csv"),
        ("IQ:22188666", ".csv", "IQ_22188666.csv"),
        ("84cca8322ae4", ".csv", "84cca8322ae4.csv"),
        (
            "2044a81a-0000-4000-8000-000000000000",
            ".csv",
            "2044a81a-0000-4000-8000-000000000000.csv",
        ),
        ("07_57277300", ".csv", "07%5F57277300.csv"),
        ("iq:22188666", ".csv", "%69%71_22188666.csv"),
        ("../../etc/passwd", ".csv", "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd.csv"),
        ("..", "", "%2E%2E"),
        (".hidden", ".csv", "%2Ehidden.csv"),
        ("-rf", ".csv", "%2Drf.csv"),
        ("a\\b\x00c d%", ".csv", "a%5Cb%00c%20d%25.csv"),
        ("con", ".csv", "%63on.csv"),
        ("lpt1", ".usage.csv", "%6Cpt1.usage.csv"),
        ("CON:1", ".csv", "CON_1.csv"),
        ("", ".csv", "%.csv"),
        ("é", ".csv", "%C3%A9.csv"),
        ("e\u0301", ".csv", "e%CC%81.csv"),
        ("\ud800", ".csv", "%ED%A0%80.csv"),
    ],
)
def test_names(identifier, suffix, name):
    """Usual ids keep their looks; whatever could name a path or upset a disk is encoded."""
    assert safe_name(identifier, suffix) == name


IDENTIFIERS = st.text(st.characters(exclude_categories=[]), max_size=40) | st.text(
    "aA:_%-./\\ 0é\u0301\u00b9", max_size=8
)


@given(
    one=IDENTIFIERS,
    other=IDENTIFIERS,
    suffixes=st.tuples(*[st.sampled_from([".csv", ".usage.csv"])] * 2),
)
@example(one="07:1", other="07_1", suffixes=(".csv", ".csv"))
@example(one="IQ:1", other="iq:1", suffixes=(".csv", ".csv"))
@example(one="a.usage", other="a", suffixes=(".csv", ".usage.csv"))
@example(one="é", other="e\u0301", suffixes=(".csv", ".csv"))
def test_two_files_never_share_a_name(one, other, suffixes):
    """Not even on a disk that ignores case and composes accents."""
    same = (one, suffixes[0]) == (other, suffixes[1])
    names = [safe_name(one, suffixes[0]), safe_name(other, suffixes[1])]
    folded = {unicodedata.normalize("NFD", name).casefold() for name in names}
    assert len(folded) == (1 if same else 2)


@given(st.text(st.characters(exclude_categories=[])) | st.text(min_size=60, max_size=400))
def test_a_name_is_one_plain_part_of_a_path(identifier):
    """Short enough, ASCII, not hidden, without anything that a shell or a disk reads."""
    name = safe_name(identifier, ".baseline-series.csv")
    assert re.fullmatch(r"[A-Za-z0-9_%~-]+\.baseline-series\.csv", name)
    assert len(name) <= 200
    assert not name.startswith(("-", "."))
    assert Path("folder", name).resolve().parent == Path("folder").resolve()


@pytest.mark.parametrize("name", ["foo", "Foo_1", "a-b", "_x", "2021", "x" * 100])
def test_typed_names_that_can_name_a_folder(name):
    """Letters of both cases, digits, hyphens and underscores, as the message says."""
    check_name(name, "NAME")
    assert (Path("generated") / name).name == name


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "-rf", "a b", "é", "a\n", "nul", "COM1", "x" * 101, "\x1b[2J"]
)
def test_typed_names_that_cannot(name):
    """Refused in one line that a terminal does not obey."""
    with pytest.raises(UsageError, match=r"^NAME '.*' cannot name a folder; use letters") as caught:
        check_name(name, "NAME")
    assert str(caught.value).isprintable()


def test_long_identifiers_that_begin_alike_differ():
    """The digest at the end tells them apart."""
    one, other = ("x" * 500 + end for end in "ab")
    assert safe_name(one, ".csv") != safe_name(other, ".csv")
    assert len(safe_name(one, ".csv")) == 200


def test_a_file_is_written_with_its_folders(tmp_path):
    """Missing folders are made, line ends stay, and the digest is that of the bytes."""
    path = tmp_path / "a" / "b" / "x.csv"
    assert write_whole(path, ["hel", "lo"]) == HELLO_SHA256 == digest_file(path)
    write_whole(path, iter(["a\r\n", "é\n"]))
    assert path.read_bytes() == "a\r\né\n".encode()
    write_whole(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert listing(path.parent) == ["x.csv"]


def test_half_surrogates_do_not_stop_a_file(tmp_path):
    """Text that UTF-8 cannot hold is replaced."""
    write_whole(tmp_path / "x", ["a\ud800b"])
    assert (tmp_path / "x").read_bytes() == b"a?b"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), CloudError("gone"), OSError("not the disk")]
)
def test_what_breaks_off_leaves_the_old_file(tmp_path, error):
    """An error in the source of the text passes through; neither half a file nor a temporary."""
    path = tmp_path / "x.csv"
    path.write_text("old")

    def chunks():
        yield "new"
        raise error

    with pytest.raises(type(error)) as caught:
        write_whole(path, chunks())
    assert caught.value is error
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["x.csv"]


@pytest.mark.parametrize(
    ("name", "number", "reason"),
    [
        ("_write_all", errno.ENOSPC, "the disk is full"),
        ("_write_all", errno.EIO, "input/output error"),
        ("sync_folder", errno.EROFS, "the file system is read-only"),
    ],
)
def test_a_failing_disk_is_told_in_one_line(tmp_path, monkeypatch, name, number, reason):
    """The message names path and reason; the old file stays, the temporary one goes."""
    path = tmp_path / "x.csv"

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, name, fail)
    with pytest.raises(LocalError) as caught:
        write_whole(path, ["new"])
    assert str(caught.value) == f"{path} cannot be written: {reason}."
    assert [name for name in listing(tmp_path) if name.startswith(".")] == []


def test_a_full_device_is_a_full_disk():
    """Devices are written straight, and their errors are told the same way."""
    with pytest.raises(LocalError, match=r"^/dev/full cannot be written: the disk is full\.$"):
        write_whole(Path("/dev/full"), ["x"])
    assert write_whole(Path("/dev/null"), ["hello"]) == HELLO_SHA256


def test_a_folder_in_the_way(tmp_path):
    """A folder of that name is no file, and a file is no folder."""
    with pytest.raises(LocalError, match="it is a folder"):
        write_whole(tmp_path, ["x"])
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="a part of the path is a file"):
        write_whole(tmp_path / "file" / "x.csv", ["x"])
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LocalError, match="its links lead in a circle"):
        write_whole(tmp_path / "loop", ["x"])


def test_a_hostile_path_is_shown_safely(tmp_path):
    """The message is one line that a terminal does not obey."""
    (tmp_path / "a\x1b[2J\n").mkdir()
    with pytest.raises(LocalError) as caught:
        write_whole(tmp_path / "a\x1b[2J\n", ["x"])
    assert str(caught.value).endswith(r"a\x1b[2J\x0a cannot be written: it is a folder.")


def test_a_read_only_file_is_left_alone(tmp_path, monkeypatch):
    """Replacing would need no permission on the file, so it is asked for."""
    path = tmp_path / "x.csv"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LocalError, match="no permission"):
        write_whole(path, ["new"])
    assert path.read_text() == "old"


def test_modes(tmp_path):
    """A new file has 0644 less the umask; a file that is replaced keeps its mode."""
    path = tmp_path / "x.csv"
    old = os.umask(0o027)
    try:
        write_whole(path, ["x"])
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    write_whole(path, ["y"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_followed(tmp_path):
    """The link stays a link, and the file it leads to is replaced, or made."""
    (tmp_path / "data").mkdir()
    link = tmp_path / "x.csv"
    link.symlink_to(tmp_path / "data" / "real.csv")
    for text in ("one", "two"):
        write_whole(link, [text])
        assert link.is_symlink()
        assert (tmp_path / "data" / "real.csv").read_text() == text
    assert listing(tmp_path) == ["data", "x.csv"]


def test_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    """File synced, then renamed, then the folder synced: the order a power cut asks for."""
    steps = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_sync(handle)

    def rename(self, target):
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    write_whole(tmp_path / "new" / "x.csv", ["x"])
    assert steps == ["folder", "file", "rename", "folder"]


def test_pipes_are_written_straight(tmp_path):
    """A named pipe stays one: its reader gets the text."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, ["a", "b"])
    reader.join()
    assert found == ["ab"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_open_descriptor_is_written_straight(tmp_path):
    """A file behind /dev/fd is not replaced under the shell's hands."""
    with (tmp_path / "x").open("wb") as stream:
        before = os.fstat(stream.fileno()).st_ino
        write_whole(Path(f"/dev/fd/{stream.fileno()}"), ["hello"])
    assert (tmp_path / "x").stat().st_ino == before
    assert (tmp_path / "x").read_text() == "hello"


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output(name, capfdbinary):
    """Both names mean standard output, after what was printed before, line ends as given."""
    sys.stdout.write("before ")
    assert write_whole(Path(name), ["hel", "lo"]) == HELLO_SHA256
    write_whole(Path(name), ["\r\n"])
    assert capfdbinary.readouterr().out == b"before hello\r\n"


def test_standard_output_without_bytes(monkeypatch):
    """A standard output that takes text only gets text."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    write_whole(Path("-"), ["é\r\n"])
    assert sys.stdout.getvalue() == "é\r\n"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BrokenPipeError(errno.EPIPE, "broken"), BrokenPipeError),
        (OSError(errno.ENOSPC, "full"), LocalError),
    ],
)
def test_standard_output_that_fails(monkeypatch, error, kind):
    """A reader that went away is its own case: the command ends quietly. A full disk is told."""

    class Closed(io.StringIO):
        def write(self, _):
            raise error

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(kind):
        write_whole(Path("-"), ["x"])


def test_folders_that_cannot_be_synced_do_not_matter(tmp_path, monkeypatch):
    """Some file systems refuse to sync a folder; a failing disk is another thing."""

    def refuse(number):
        def sync(_):
            raise OSError(number, "no")

        return sync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="no"):
        sync_folder(tmp_path)


def test_make_folder_twice(tmp_path):
    """A folder that is there is fine."""
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert listing(tmp_path) == ["a"]


def test_partial_writes_are_continued():
    """A raw stream may take a part at a time."""

    class Slow(io.RawIOBase):
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:2])
            return len(data[:2])

    slow = Slow()
    files._write_all(slow, b"hello")
    assert slow.taken == b"hello"
    assert hashlib.sha256(slow.taken).hexdigest() == HELLO_SHA256


def test_a_file_that_holds_the_text_is_left(tmp_path):
    """Not even its times change; any other content, or none, is replaced."""
    path = tmp_path / "new" / "a.csv"
    renew_whole(path, "\u00e9\r\n")
    inode = path.stat().st_ino
    renew_whole(path, "\u00e9\r\n")
    assert path.stat().st_ino == inode
    for text in ("\u00e9\n", "", "\u00e9\r\n\r\n"):
        renew_whole(path, text)
        assert path.read_bytes() == text.encode()
