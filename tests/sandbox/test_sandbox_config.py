from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from copper_cli.sandbox import ConfigError, Fault, SandboxConfig
from copper_cli.sandbox.config import parse_duration, parse_max_span, parse_quota


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"port": 70000}, "port"),
        ({"premises": 0}, "premises"),
        ({"premises": 10**7}, "premises"),
        ({"now": datetime(2021, 1, 1)}, "now"),
        ({"zones": ()}, "zones"),
        ({"zones": ("Nowhere/Land",)}, "Nowhere/Land"),
        ({"zones": ("",)}, "zone"),
        ({"zones": ("../etc",)}, "zone"),
        ({"series_zone": "x"}, "'x'"),
        ({"latency_ms": -1}, "latency"),
        ({"quota": "100"}, "quota"),
        ({"quota": "0/h"}, "quota"),
        ({"quota": ""}, "quota"),
        ({"cap_rows": 0}, "cap-rows"),
        ({"next_page": 0}, "next-page"),
        ({"max_page": 0}, "max-page"),
        ({"late": ("soon",)}, "late"),
        ({"late": ("07:1=",)}, "late"),
        ({"late": ("9" * 12,)}, "late"),
        ({"token_ttl": 0}, "token-ttl"),
        ({"max_age": -1}, "max-age"),
        ({"missing_emails": -1}, "missing-emails"),
        ({"quirks": frozenset({"odd"})}, "odd"),
        ({"max_span": {"week": timedelta(1)}}, "week"),
        ({"max_span": {"hour": "soon"}}, "soon"),
        ({"faults": ("x",)}, "fault"),
    ],
)
def test_wrong_settings_are_named(settings, named):
    """Before anything starts, one line with the setting."""
    with pytest.raises(ConfigError, match=named) as caught:
        SandboxConfig(**settings)
    assert "\n" not in str(caught.value)


def test_texts_of_settings():
    """What the command line's texts mean."""
    assert parse_quota("100/h, 1000/d,5/m,1/s") == ((100, 3600), (1000, 86400), (5, 60), (1, 1))
    assert parse_quota(None) == ()
    assert parse_duration("90m") == timedelta(minutes=90)
    assert parse_max_span("hour=31d,minute=12h") == {
        "hour": timedelta(days=31),
        "minute": timedelta(hours=12),
    }
    for text in ("hour", "=1d", "hour=1w"):
        with pytest.raises(ConfigError):
            parse_max_span(text)
    assert SandboxConfig(max_span={"hour": "31d"}).spans() == {"hour": timedelta(days=31)}
    fault = Fault(status=502)
    assert SandboxConfig(faults=(fault, "status=500")).planned_faults() == [fault, Fault()]
