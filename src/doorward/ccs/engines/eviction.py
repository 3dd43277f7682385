"""End a gateway's session at a broker, which leaves a session alone whose certificate was withdrawn.

Whoever comes under a client's name takes its place, and the name is the certificate's. So a stand-in with a
certificate of its own ends the session, and the list of withdrawn certificates keeps the gateway out after it.
"""

import asyncio

from gmqtt import Client
from gmqtt.mqtt.handler import MQTTConnectError

from doorward.ccs.engines.link_mqtt import broker_address
from doorward.kit.mqtt import Session, Unacknowledged
from doorward.kit.tls import Credentials, client_context

KEEPALIVE_S = 10
OPEN_WAIT_S_MAX = 10.0
CLOSE_WAIT_S_MAX = 2.0
LOOK_S = 0.25
READ_WAIT_S_MAX = 30.0
"""How long the broker may take to read the list of withdrawn certificates."""


class NotRead(Exception):
    """The broker still takes a certificate that is on the list: it has not read it."""


async def list_is_read(url: str, withdrawn: Credentials, gateway: str) -> None:
    """Return when the broker refuses a certificate that is on the list; raise :class:`NotRead` after the bound.

    ``withdrawn`` is in the name of ``gateway``, so that it takes that one's place while it is let in.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + READ_WAIT_S_MAX
    while await comes_in(url, withdrawn, gateway):
        if loop.time() > until_s:
            raise NotRead(f"{url} does not keep withdrawn certificates out; does it read the list?")
        await asyncio.sleep(LOOK_S)


async def comes_in(url: str, credentials: Credentials, gateway: str) -> bool:
    """Come to the broker and leave again; whether it let us in.

    Raises ``OSError`` when there is no broker.
    """
    host, port = broker_address(url)
    _, writer = await asyncio.open_connection(host, port)  # that somebody is there
    writer.close()
    session = Session(Client(gateway, persistent_storage=Unacknowledged(), session_expiry_interval=0))
    tls = client_context(credentials.ca, credentials)
    try:
        await session.open(host, port, tls, keepalive_s=KEEPALIVE_S, wait_s_max=OPEN_WAIT_S_MAX)
    except (OSError, MQTTConnectError):
        return False
    finally:
        await session.close(wait_s_max=CLOSE_WAIT_S_MAX)
    return True
