"""The town of the CCS's own tests, for what needs a gateway that is played."""

from tests.ccs.conftest import town

__all__ = ["town"]
