"""The consent authority's settings: environment (``DOORWARD_CONSENT_…``)."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "DOORWARD_CONSENT_"
OUTBOX_FILE = "outbox.jsonl"
OPERATORS_FILE = "operators.jwks"


class ConsentSettings(BaseSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    dir: Path = Path("consent-authority")
    """The authority's own directory: its key, its register, its TLS, `operators.jwks`. Never the CCS's."""
    host: str = "127.0.0.1"
    """Address that it listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """Port that it listens on; 0 takes a free one."""
    hosts: list[str] = ["localhost", "127.0.0.1"]
    """Names and addresses by which it is reached: they stand in its certificate."""
    public_url: str = ""
    """How customers reach it to end a permission. Empty: made of the first of `hosts` and the port."""
    smtp_host: str = ""
    """Mail server for customers' letters. Empty: they go into `outbox.jsonl` in its directory (the demo)."""
    smtp_port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Port of the mail server (STARTTLS)."""
    smtp_from: str = ""
    """Sender of the letters."""
    smtp_user: str = ""
    """Account at the mail server, where it wants one."""
    smtp_password: str = ""
    """Password of that account."""
    stop_wait_s_max: Annotated[float, Field(gt=0)] = 10.0
    """How long calls may take to end when it stops."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.smtp_host and "@" not in self.smtp_from:
            raise ValueError("smtp_from: name the sender of the letters, as consent@utility.example")
        return self
