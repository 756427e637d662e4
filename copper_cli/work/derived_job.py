"""One meter whose rows are added up from shorter ones that are held: no call is made."""

from __future__ import annotations

from collections.abc import Sequence

from copper_cli.archive import SeriesKey
from copper_cli.records import SeriesKind
from copper_cli.render.meter_csv import SeriesRows
from copper_cli.series import Survey, survey_series
from copper_cli.work.context import Context
from copper_cli.work.derived_rows import derive_rows, find_source
from copper_cli.work.download import FileJob, Part
from copper_cli.work.fetch_rows import Fetched
from copper_cli.work.held_rows import View
from copper_cli.work.meter_series import MeterSeries, Planned, SeriesRequest
from copper_cli.work.outcome import Cost


def derived_job(
    context: Context,
    request: SeriesRequest,
    planned: Planned,
    parts: Sequence[Part[MeterSeries]],
) -> FileJob[MeterSeries] | None:
    """The meter's files from what is held; None where a part of what they need is not."""
    plan, sources = planned.plan, dict[SeriesKind, SeriesKey]()
    for kind in request.kinds():
        source = find_source(context.archive, planned.meter.id, kind, plan)
        if source is None:
            return None
        sources[kind] = source

    def show(kind: SeriesKind) -> tuple[SeriesRows, Survey]:
        series = derive_rows(context.archive, sources[kind], plan)
        found = survey_series([series], plan, planned.created_s(), series.sum_energy)
        return SeriesRows(lambda: [series], series.sum_energy), found

    def fetch() -> MeterSeries:
        (rows, found), *baselines = (show(kind) for kind in request.kinds())
        baseline = baselines[0][0] if baselines else None
        surveys = [found, *(survey for _, survey in baselines)]
        return MeterSeries(planned, rows, baseline, surveys, "derived", None, Fetched())

    return FileJob(
        subject=planned.meter.id,
        windows=plan.windows,
        view=View(context.archive, [(key, (plan.start_s, plan.end_s)) for key in sources.values()]),
        fetch=fetch,
        cost=lambda: Cost(len(plan.windows), held=len(plan.windows)),
        parts=parts,
    )
