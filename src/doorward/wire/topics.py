"""Where frames go on a broker, and how gateways spread over partitions."""

from zlib import crc32

PARTITIONS = 256
ROOT = "doorward/v1"


def partition_of(gateway: str) -> int:
    """Return the partition (0–255) of a gateway: the same for ever, for every worker."""
    return crc32(gateway.encode()) % PARTITIONS


def down(gateway: str) -> str:
    """Topic on which the gateway listens."""
    return f"{ROOT}/{partition_of(gateway)}/{gateway}/down"


def up(gateway: str) -> str:
    """Topic on which the gateway speaks."""
    return f"{ROOT}/{partition_of(gateway)}/{gateway}/up"


def presence(gateway: str) -> str:
    """Retained topic: ``on`` while connected, ``off`` by last will."""
    return f"{ROOT}/{partition_of(gateway)}/{gateway}/presence"


def partition_filters(partition: int) -> tuple[str, str]:
    """Subscriptions with which a worker hears all gateways of one partition."""
    return f"{ROOT}/{partition}/+/up", f"{ROOT}/{partition}/+/presence"


def gateway_of(topic: str) -> str | None:
    """Return the gateway that a topic belongs to, or ``None`` if it is none of ours."""
    parts = topic.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT:
        return None
    return parts[3] if parts[2] == str(partition_of(parts[3])) else None
