"""The settings of the CCS: one frozen object, read once. Environment (``DOORWARD_CCS_…``) beats the file."""

import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from doorward.ccs.recording import DAY_US, Keep
from doorward.ccs.rules.fleet import KW, Caps, FleetTerms
from doorward.ccs.terms import US, Terms

PREFIX = "DOORWARD_CCS_"
SQLITE_FILE = "ccs.sqlite"
"""The books in the data directory, unless another database is named."""
AUTHORITY_DIR = "authority"
"""In the data directory: the certificate authority and the consent authority, built in (docs/adr/0008)."""


class CcsSettings(BaseSettings):
    """Every setting has its unit last. Raises ``pydantic.ValidationError`` naming what is wrong."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Path = Field(
        Path("doorward-data"), description="Where keys, certificates and (with SQLite) the books lie."
    )
    database: str = Field(
        "",
        description="`postgresql://…`, `sqlite:///path`; empty for SQLite in the data directory.",
    )

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    tls_certificate: Path | None = Field(
        None, description="Certificate chain (PEM) of the API; with the key, the API speaks HTTPS."
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of the API's certificate.")
    tls_client_ca: Path | None = Field(
        None,
        description="Authorities (PEM) of the certificates that third parties may show to the API: tokens can "
        "be bound to them.",
    )
    public_url: str = Field(
        "", description="How third parties reach the API; the issuer of tokens. Empty: made of host and port."
    )
    trusted_proxies: str = Field(
        "", description="Addresses of proxies whose `X-Forwarded-For` is believed, separated by commas."
    )

    link: Literal["websocket", "mqtt"] = Field(
        "websocket", description="How gateways come: directly (one process), or through an MQTT 5 broker."
    )
    link_host: str = Field("127.0.0.1", description="Address that the direct link listens on.")
    link_port: int = Field(8081, ge=0, le=65535, description="Port of the direct link; 0 takes a free one.")
    mqtt_url: str = Field("", description="The broker: `mqtts://host:port`.")
    mqtt_name: str = Field(
        "ccs",
        pattern=r"^ccs(-[a-z0-9]{1,32})?$",
        description="How the broker's rules call the workers of this machine: `ccs` for `ccs-1`, `ccs-2` …; "
        "another machine's are `ccs-b`.",
    )
    enrol_host: str = Field("127.0.0.1", description="Address that gateways enrol at (HTTPS).")
    enrol_port: int = Field(8082, ge=0, le=65535, description="Port of enrolment; 0 takes a free one.")
    gateway_hosts: list[str] = Field(
        ["localhost", "127.0.0.1"],
        min_length=1,
        description="Names and addresses by which gateways reach us: they stand in our certificates, and the "
        "first of them in what an enrolled gateway is told.",
    )

    workers: int = Field(1, ge=1, le=64, description="Processes. More than one needs PostgreSQL and MQTT.")
    profile: Literal["demo", "production"] = Field(
        "demo",
        description="`production` refuses to start with what is only for a demo: a consent authority in our own "
        "process, whose key whoever takes us over would have.",
    )
    consent_url: str = Field(
        "", description="The consent authority, `https://host:port`; empty: built in, in our own process."
    )
    consent_credentials: Path | None = Field(
        None,
        description="Directory with `ca.pem`, `ccs.pem`, `ccs.key` that `doorward consent-authority credentials` "
        "made.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="From which level on."
    )
    log_json: bool = Field(True, description="One JSON object a line; otherwise for people at a terminal.")
    stop_wait_s_max: float = Field(20.0, gt=0, description="How long calls may take to end when we stop.")

    utility_name: str = Field("the utility", description="What customers and companies call the utility.")
    timezone: str = Field("UTC", description="Time zone of people of the utility, as `America/Toronto`.")
    contract_approval: Literal["rule", "representative"] = Field(
        "rule", description="Who approves a contract that a customer has signed: a rule at once, or a person."
    )
    portal_choose: bool = Field(
        False,
        description="The portal's first page lets whoever is on this machine choose who they are. For demos.",
    )
    per_hour: int = Field(24, ge=2, description="Transactions an hour at one service point, all together.")
    per_day: int = Field(576, ge=2, description="Transactions a day at one service point, all together.")
    warn_after_s: int = Field(
        14 * 60, ge=1, le=15 * 60, description="A third party is warned after this long without delivery."
    )
    in_flight_max: int = Field(16, ge=1, description="Requests to one gateway without a receipt.")
    queue_items_max: int = Field(20_000, ge=1, description="Requests that wait for their transaction.")
    refusals_per_minute_max: int = Field(
        120, ge=1, description="Refusals of one source and minute that are recorded one by one."
    )

    fleet_kw_per_minute: int = Field(
        15_000,
        ge=1,
        description="Load that all third parties together may move in a minute, each way, in kW.",
    )
    fleet_kw_at_once: int = Field(
        150_000, ge=1, description="Load that all third parties together may hold at once, each way, in kW."
    )
    area_kw_per_minute: int = Field(5_000, ge=1, description="The same in one area, in a minute.")
    area_kw_at_once: int = Field(50_000, ge=1, description="The same in one area, at once.")
    party_kw_per_minute: int = Field(3_000, ge=1, description="The same for one third party, in a minute.")
    party_kw_at_once: int = Field(30_000, ge=1, description="The same for one third party, at once.")
    area_caps_kw: dict[str, tuple[int, int]] = Field(
        {}, description="Areas with caps of their own: area → kW in a minute, kW at once."
    )
    party_caps_kw: dict[str, tuple[int, int]] = Field(
        {}, description="Third parties with caps of their own: id → kW in a minute, kW at once."
    )
    opposing_kw: int = Field(
        1_000, ge=1, description="What one third party may switch to and fro on the same devices, in kW."
    )
    opposing_s: int = Field(600, ge=10, description="Within how long switching back is to and fro.")
    campaign_kw_per_minute: int = Field(
        300,
        ge=0,
        description="A third party that moves more is taken to run a campaign, whether it says so or not, in kW.",
    )
    campaign_spread_s: int = Field(
        600,
        ge=0,
        le=3600,
        description="Controls of a campaign begin at random within this time. Short only in a demo.",
    )
    quarantine_s: int = Field(
        1800, ge=60, description="How long what is over a cap waits for two operators, at most."
    )
    quarantine_items_max: int = Field(10_000, ge=1, description="Requests in quarantine.")

    webhook_allow_networks: list[IPv4Network | IPv6Network] = Field(
        [], description="Networks that webhooks may go to although they are not public, as `127.0.0.0/8`."
    )
    webhook_give_up_h: int = Field(72, ge=1, description="How long an undelivered webhook is tried again.")
    webhook_first_s: float = Field(5.0, gt=0, description="Wait before the first repetition of a webhook.")

    checkpoint_s: float = Field(
        60.0, gt=0, le=3_600, description="Between two signed checkpoints of the journal; none without news."
    )
    journal_keep_d: int = Field(1_096, ge=31, description="Days that the journal is kept.")
    payload_keep_d: int = Field(
        396, ge=1, description="Days that bodies and answers of requests are kept; their digests stay."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.database and not self.database.startswith(("postgresql://", "postgres://", "sqlite://")):
            raise ValueError("database: must begin with postgresql:// or sqlite:///, or be empty")
        if self.workers > 1 and not self.is_shared:
            raise ValueError("workers: more than one needs a PostgreSQL database and link = 'mqtt'")
        if self.link == "mqtt" and not self.mqtt_url:
            raise ValueError("mqtt_url: name the broker, as mqtts://host:8883")
        if self.portal_choose and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("portal_choose: only where the API listens on loopback (host = '127.0.0.1')")
        if self.profile == "production" and not self.consent_url:
            raise ValueError("consent_url: production needs the consent authority in a process of its own")
        if self.consent_url and not self.consent_url.startswith("https://"):
            raise ValueError("consent_url: must begin with https://")
        if bool(self.consent_url) != (self.consent_credentials is not None):
            raise ValueError("consent_url and consent_credentials go together")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca: third parties show certificates over TLS; set tls_certificate")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file (which comes as arguments)."""
        return env_settings, init_settings

    @property
    def is_shared(self) -> bool:
        """Whether several workers may share books and gateways."""
        return self.database.startswith("postgres") and self.link == "mqtt"

    def keep(self) -> Keep:
        """Return how often the record is checkpointed, and how long what is kept."""
        return Keep(
            checkpoint_s=self.checkpoint_s,
            journal_us=self.journal_keep_d * DAY_US,
            payload_us=self.payload_keep_d * DAY_US,
        )

    def terms(self) -> Terms:
        """Return what the journey obeys."""
        return Terms(
            per_hour=self.per_hour,
            per_day=self.per_day,
            warn_after_us=self.warn_after_s * US,
            in_flight_max=self.in_flight_max,
            queue_items_max=self.queue_items_max,
            refusals_per_minute_max=self.refusals_per_minute_max,
            webhook_give_up_us=self.webhook_give_up_h * 3600 * US,
            webhook_first_us=int(self.webhook_first_s * US),
            utility_name=self.utility_name,
            fleet=self._fleet(),
        )

    def _fleet(self) -> FleetTerms:
        return FleetTerms(
            fleet=_caps(self.fleet_kw_per_minute, self.fleet_kw_at_once),
            area=_caps(self.area_kw_per_minute, self.area_kw_at_once),
            party=_caps(self.party_kw_per_minute, self.party_kw_at_once),
            areas={area: _caps(*caps) for area, caps in self.area_caps_kw.items()},
            parties={party: _caps(*caps) for party, caps in self.party_caps_kw.items()},
            opposing_w=self.opposing_kw * KW,
            opposing_us=self.opposing_s * US,
            campaign_w=self.campaign_kw_per_minute * KW,
            spread_s=self.campaign_spread_s,
            quarantine_us=self.quarantine_s * US,
            quarantine_items_max=self.quarantine_items_max,
        )


def _caps(kw_per_minute: int, kw_at_once: int) -> Caps:
    return Caps(kw_per_minute * KW, kw_at_once * KW)


def read_settings(file: Path | None = None, **over: Any) -> CcsSettings:
    """Return the settings of a TOML file (none: defaults), the environment, and ``over`` in between.

    Raises ``ValueError`` (pydantic's or TOML's) or ``OSError``.
    """
    held: dict[str, Any] = {}
    if file is not None:
        with file.open("rb") as opened:
            held = tomllib.load(opened)
    return CcsSettings(**(held | over))
