"""What people do with an archive itself: look at it, check it, forget a home, move it. No call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copper_cli.archive.home import Owner, open_existing
from copper_cli.archive.info import ArchiveInfo, KindInfo, read_info
from copper_cli.errors import UsageError
from copper_cli.table import Column, Table

if TYPE_CHECKING:
    from copper_cli.work.sync_order import SyncOrder

_INFO = (
    Column("Folder", "folder"),
    Column("ID", "id", hidden=True),
    Column("API Host", "api_host"),
    Column("Enterprise", "enterprise_id"),
    Column("Since", "since"),
    Column("Meters", "meters"),
    Column("Rows", "rows"),
    Column("Not Published", "not_published"),
    Column("Bytes", "bytes"),
    Column("Last Publish", "last_publish"),
)
_FINDINGS = (Column("Where", "where"), Column("Wrong", "wrong"), Column("Mended", "mended"))
_KINDS = (
    Column("Kind", "kind"),
    Column("Granularity", "granularity"),
    Column("Of", "subjects"),
    Column("Known From", "from"),
    Column("Known Until", "until"),
    Column("Rows Published", "rows_published"),
    Column("Months", "months"),
    Column("Rows Not Published", "rows_not_published"),
)


def show_archive(path: Path, owner: Owner | None) -> tuple[Table, Table]:
    """One row on an archive, and a row a kind and granularity; the facts of the first hold these.

    `owner`: whose it must be; None: anybody's. Rows not published may replace published ones, so
    that both together are the most there can be.
    """
    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        info = read_info(opened.archive, opened.marker)
    rows = [_kind_row(kind) for kind in info.kinds]
    kinds = Table("Rows by kind", _KINDS, rows)
    keys = [column.key for column in _KINDS]
    facts: dict[str, Any] = {
        "kinds": [dict(zip(keys, row, strict=True)) for row in rows],
        "lists": [
            {"list": name, "count": count, "last_seen": _local(last_s)}
            for name, count, last_s in info.listed
        ],
        "forgotten": info.forgotten,
        "network": info.network,
    }
    return Table("Archive", _INFO, [_info_row(info)], facts), kinds


def _info_row(info: ArchiveInfo) -> tuple[Any, ...]:
    owner = info.marker.owner
    rows = sum(kind.published + kind.waiting for kind in info.kinds)
    return (
        str(info.path),
        info.marker.id,
        owner.api_host,
        owner.enterprise_id or owner.user,
        datetime.fromisoformat(info.marker.created).astimezone(),
        info.meters,
        rows,
        info.waiting,
        info.size_bytes,
        _local(info.published_s),
    )


def _kind_row(kind: KindInfo) -> tuple[Any, ...]:
    return (
        kind.kind,
        kind.granularity or None,
        kind.subjects,
        _local(kind.start_s),
        _local(kind.end_s),
        kind.published,
        kind.months,
        kind.waiting,
    )


def _local(instant_s: int | None) -> datetime | None:
    if instant_s is None:
        return None
    return datetime.fromtimestamp(instant_s, UTC).astimezone()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def check_owner(path: Path, found: Owner, owner: Owner | None) -> None:
    """UsageError where an archive is not of whom it must be; None: anybody's will do."""
    if owner is not None and found != owner:
        raise UsageError(
            f"{path} is the archive of {found}; the settings are those of {owner}. Type --archive "
            f"{path} where that one is meant."
        )


def check_archive(path: Path, owner: Owner | None, *, repair: bool) -> Table:
    """A row for each thing that is not as it should be; `facts["wrong"]` counts those that stay.

    With `repair` what can be mended is, and the next run fetches what is lost.
    """
    from copper_cli.archive.check import check
    from copper_cli.archive.rescue import rescue

    faults = rescue(path, owner, repair=repair)
    rows = [(one.where, one.text, one.mended) for one in faults]
    if all(one.mended for one in faults):  # else it cannot be opened
        with open_existing(path) as opened:
            check_owner(path, opened.marker.owner, owner)
            found = check(opened.archive, repair=repair)
        rows += [(one.where, one.text, one.mended) for one in found]
    wrong = sum(1 for _, _, mended in rows if mended is None)
    return Table("Archive check", _FINDINGS, rows, {"wrong": wrong})


def compact_archive(path: Path, owner: Owner | None) -> tuple[list[str], bool]:
    """Publish all that waits and give room back; a line each, and whether all was published."""
    from copper_cli.archive.partitions import compact
    from copper_cli.errors import LocalError

    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        before = read_info(opened.archive, opened.marker)
        done = compact(opened.archive)
        if done is None:
            raise LocalError(
                f"Another run writes the months of the archive {path}; run this again when it has "
                "ended."
            )
        after = read_info(opened.archive, opened.marker)
    lines = [
        *done.problems,
        f"{_count(len(done.months), 'month')} written anew, {_count(after.waiting, 'row')} still "
        f"to be published; {before.size_bytes:,} bytes before, {after.size_bytes:,} now.",
    ]
    return lines, not done.problems


def forget_home(
    path: Path,
    owner: Owner | None,
    cache_folder: Path,
    *,
    meter_ids: Sequence[str],
    premise_ids: Sequence[str],
    confirm: Callable[[Sequence[str]], bool],
) -> list[str] | None:
    """Forget meters and homes; what was done comes back, a line each. None where it is not wanted.

    `confirm` is told what is meant, a line each. Answers that the cache keeps, and what was
    learned of these meters, go too.
    """
    from copper_cli.archive.forget import find_leaving, forget
    from copper_cli.cloud.cache import forget_ids

    with open_existing(path, alone=True) as opened:
        check_owner(path, opened.marker.owner, owner)
        leaving = find_leaving(opened.archive, meter_ids, premise_ids)
        told = [
            f"{noun}: {', '.join(ids)}"
            for noun, ids in (
                ("Premises", leaving.premises),
                ("Meters", leaving.meters),
                ("Gateways", leaving.gateways),
                ("Stood there before, and stay", leaving.elsewhere),
            )
            if ids
        ]
        if not confirm(told):
            return None
        done = forget(opened.archive, leaving)
        forget_ids(cache_folder, leaving.ids)
    lines = [
        f"Gone: {_count(done.rows, 'row')}; written anew: {_count(done.months, 'month')}. None of "
        f"the {done.files} files of the archive names what was forgotten."
    ]
    if not opened.is_alone:
        lines.append(
            "Another run used the archive meanwhile and may have brought some of it back: run the "
            "same command again when it has ended."
        )
    if leaving.folders:
        lines.append("These folders name it and are left as they are; remove them yourself:")
        lines += [f"  {folder}" for folder in leaving.folders]
    return lines


def remember_home(
    path: Path, owner: Owner | None, *, meter_ids: Sequence[str], premise_ids: Sequence[str]
) -> int:
    """Let lists name these again; how many ids that are."""
    from copper_cli.archive.forget import remember

    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        return remember(opened.archive, meter_ids, premise_ids)


def tend_order(path: Path, owner: Owner | None, *, drop: bool) -> SyncOrder | None:
    """The standing order of `copper sync`, dropped where that is wanted; None: there is none."""
    from copper_cli.work.sync_order import forget_order, read_order

    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
        order = read_order(opened.archive)
        if drop:
            forget_order(opened.archive)
    return order


def move(path: Path, owner: Owner | None, target: Path, say: Callable[[str], None]) -> None:
    """Put the archive into another folder, whole or not at all."""
    from copper_cli.archive.move import move_archive

    with open_existing(path) as opened:
        check_owner(path, opened.marker.owner, owner)
    move_archive(path, target, say)
