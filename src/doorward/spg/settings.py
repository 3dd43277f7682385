"""The gateway's settings: read once, from the environment (``DOORWARD_SPG_…``) or by whoever builds it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from doorward.spg.rules.facts import DAY_US, US, Policy

HOUR_S = 3600.0


class GatewaySettings(BaseSettings):
    """What an operator may set. The defaults are the ones that the documentation describes."""

    model_config = SettingsConfigDict(
        env_prefix="DOORWARD_SPG_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    dir: Path = Path("gateway")
    """Directory of the gateway's identity, its store and its own device models (``models/``)."""
    per_hour: Annotated[int, Field(ge=2)] = 24
    """Transactions an hour at one service point, all third parties together; the CCS's setting must agree."""
    per_day: Annotated[int, Field(ge=2)] = 576
    """Transactions a day at one service point, all third parties together."""
    sample_interval_s: Annotated[float, Field(ge=0)] = 300.0
    """How often every device is sampled for the home's own history; 0 switches it off."""
    sample_keep_d: Annotated[float, Field(gt=0)] = 30.0
    """Days that samples are kept."""
    inbox_keep_d: Annotated[float, Field(ge=31)] = 400.0
    """Days that ids of requests are remembered, so that none is ever carried out twice."""
    payload_keep_d: Annotated[float, Field(gt=0)] = 30.0
    """Days that the bodies and answers of requests are kept at the gateway."""
    journal_keep_d: Annotated[float, Field(ge=31)] = 400.0
    """Days that the gateway's journal is kept."""
    control_default_h: Annotated[float, Field(gt=0)] = 4.0
    """Hours that a control lasts when nobody says."""
    end_spread_s: Annotated[float, Field(ge=0)] = 600.0
    """A control ends at a random time up to so many seconds after its end (and no longer than it lasted)."""
    start_spread_s_max: Annotated[float, Field(ge=0)] = 3600.0
    """The longest random delay of a start that a request may ask for."""
    campaign_spread_s: Annotated[float, Field(ge=0)] = 600.0
    """A control of a campaign begins at random within no less, whatever the request says. Short only in a demo."""
    withdraw_spread_s: Annotated[float, Field(ge=0)] = 60.0
    """What ran in a campaign is let go at random within so many seconds when permission is withdrawn."""
    rest_s: dict[str, float] = {"heat_pump": 180.0, "relay": 30.0}
    """Shortest time off, in seconds, by device class or model, before a device is turned on again."""
    han_call_s_max: Annotated[float, Field(gt=0)] = 30.0
    """The longest that one call to a device may take."""
    attempts_report_s: Annotated[float, Field(gt=0)] = 60.0
    """How often repeated unauthorised attempts of one cause are reported."""
    refusals_per_minute_max: Annotated[int, Field(gt=0)] = 120
    """Refused requests of a minute that are recorded and answered one by one; more are only counted."""
    notice_gap_s: Annotated[float, Field(ge=0)] = 60.0
    """At most one notice per device and kind in this time."""
    open_max: Annotated[int, Field(gt=0)] = 500
    """Requests that may be open at one time."""
    outbox_max: Annotated[int, Field(gt=0)] = 50_000
    """Messages that may wait for the CCS; beyond it no new request is taken."""
    stop_wait_s_max: Annotated[float, Field(ge=0)] = 5.0
    """How long what runs may still take when the gateway is stopped."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From which level on the process logs."""
    log_json: bool = False
    """One JSON object a line; otherwise for people at a terminal."""
    modbus_poll_s: Annotated[float, Field(gt=0)] = 5.0
    """How often Modbus devices are polled for what they do by themselves."""
    ocpp_host: str = "127.0.0.1"
    """Address at which chargers connect (the home network's, never the utility's)."""
    ocpp_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port at which chargers connect; 0 takes a free one."""
    ocpp_passwords: dict[str, str] = {}
    """Charger → password, for chargers that prove themselves by HTTP Basic (OCPP security profile 1)."""

    def policy(self) -> Policy:
        """Return the numbers that the rules use."""
        return Policy(
            per_hour=self.per_hour,
            per_day=self.per_day,
            control_us_default=int(self.control_default_h * HOUR_S * US),
            start_spread_us_max=int(self.start_spread_s_max * US),
            campaign_spread_us=int(self.campaign_spread_s * US),
            withdraw_spread_us=int(self.withdraw_spread_s * US),
            end_spread_us_max=int(self.end_spread_s * US),
            rest_us={name: int(rest_s * US) for name, rest_s in self.rest_s.items()},
            sample_us=int(self.sample_interval_s * US),
            sample_keep_us=int(self.sample_keep_d * DAY_US),
            inbox_keep_us=int(self.inbox_keep_d * DAY_US),
            payload_keep_us=int(self.payload_keep_d * DAY_US),
            journal_keep_us=int(self.journal_keep_d * DAY_US),
            attempts_report_us=int(self.attempts_report_s * US),
            refusals_per_minute_max=self.refusals_per_minute_max,
            notice_gap_us=int(self.notice_gap_s * US),
            open_max=self.open_max,
            outbox_max=self.outbox_max,
        )
