"""JSON to records: the only place that names the cloud's fields.

Unknown fields are ignored and missing ones survived. A value of a wrong type is None; a thing
without the id or instant that makes it what it is, is left out; an answer that is no list or
object where it must be raises AnswerError, and so does a list of which nothing can be read.
"""

from __future__ import annotations

from copper_cli.cloud.parse.answers import (
    Page,
    Row,
    is_bulk_row,
    is_grid_row,
    parse_error_text,
    parse_next_page,
    parse_offset_page,
)
from copper_cli.cloud.parse.lists import (
    parse_app_page,
    parse_bulk,
    parse_gateways,
    parse_grid,
    parse_histories,
    parse_instant_page,
    parse_instants,
    parse_meters,
    parse_premises,
)
from copper_cli.cloud.parse.login import TokenAnswer, parse_token
from copper_cli.cloud.parse.series import (
    has_local_times,
    parse_aggregate,
    parse_grid_series,
    parse_readings,
    parse_series,
    parse_timezone,
)
from copper_cli.cloud.parse.values import to_epoch_s, to_epoch_us, to_id, to_number, to_utc

__all__ = [
    "Page",
    "Row",
    "TokenAnswer",
    "has_local_times",
    "is_bulk_row",
    "is_grid_row",
    "parse_aggregate",
    "parse_app_page",
    "parse_bulk",
    "parse_error_text",
    "parse_gateways",
    "parse_grid",
    "parse_grid_series",
    "parse_histories",
    "parse_instant_page",
    "parse_instants",
    "parse_meters",
    "parse_next_page",
    "parse_offset_page",
    "parse_premises",
    "parse_readings",
    "parse_series",
    "parse_timezone",
    "parse_token",
    "to_epoch_s",
    "to_epoch_us",
    "to_id",
    "to_number",
    "to_utc",
]
