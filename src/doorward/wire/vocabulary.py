"""The field's words: device classes, operations, causes and operating states.

Units inside Doorward are W, Wh, degrees Celsius and UTC microseconds; conversion happens at the edge.
"""

from enum import StrEnum
from types import MappingProxyType

THIRD_PARTY_CLASS = 10
"""Message classes from here on are third parties'; those before, more urgent, are the utility's."""


class DeviceClass(StrEnum):
    """Classes of energy equipment (R02: nothing else is admitted)."""

    THERMOSTAT = "thermostat"
    HEAT_PUMP = "heat_pump"
    POOL_PUMP = "pool_pump"
    WATER_HEATER = "water_heater"
    EV_CHARGER = "ev_charger"
    RELAY = "relay"
    METER = "meter"


class Operation(StrEnum):
    """What may be asked of a device."""

    READ = "read"
    TURN_ON = "turn_on"
    TURN_OFF = "turn_off"
    LIMIT = "limit"
    SETPOINT = "setpoint"
    OFFSET = "offset"
    MODE = "mode"
    SHED = "shed"
    LOAD_UP = "load_up"
    DUTY_CYCLE = "duty_cycle"
    PROGRAM = "program"
    RELEASE = "release"

    @property
    def is_control(self) -> bool:
        """Whether the operation changes what a device does (everything but ``read``)."""
        return self is not Operation.READ


class Scope(StrEnum):
    """What a request is aimed at."""

    DEVICE = "device"
    HOME = "home"
    """All permitted devices of the home in one request (S1.01b)."""
    SERVICE_POINT = "service_point"
    """The service point as a whole (S2.09b)."""


class Cause(StrEnum):
    """Why a control was sent; shown to the customer."""

    GRID = "grid"
    PRICE = "price"
    COMFORT = "comfort"
    CUSTOMER = "customer"
    EMERGENCY = "emergency"
    TEST = "test"


class Wish(StrEnum):
    """A third party's own priority among its messages (F19)."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class OperatingState(StrEnum):
    """OpenADR 3.1 ``OPERATING_STATE`` names."""

    NORMAL = "NORMAL"
    ERROR = "ERROR"
    IDLE_NORMAL = "IDLE_NORMAL"
    RUNNING_NORMAL = "RUNNING_NORMAL"
    RUNNING_CURTAILED = "RUNNING_CURTAILED"
    RUNNING_HEIGHTENED = "RUNNING_HEIGHTENED"
    IDLE_CURTAILED = "IDLE_CURTAILED"
    SGD_ERROR_CONDITION = "SGD_ERROR_CONDITION"
    IDLE_HEIGHTENED = "IDLE_HEIGHTENED"
    IDLE_OPTED_OUT = "IDLE_OPTED_OUT"
    RUNNING_OPTED_OUT = "RUNNING_OPTED_OUT"


CLASS_OPERATIONS: MappingProxyType[DeviceClass, frozenset[Operation]] = MappingProxyType(
    {
        DeviceClass.THERMOSTAT: frozenset(
            {
                Operation.READ,
                Operation.SETPOINT,
                Operation.OFFSET,
                Operation.MODE,
                Operation.PROGRAM,
                Operation.RELEASE,
            }
        ),
        DeviceClass.HEAT_PUMP: frozenset(
            {
                Operation.READ,
                Operation.TURN_ON,
                Operation.TURN_OFF,
                Operation.LIMIT,
                Operation.DUTY_CYCLE,
                Operation.SETPOINT,
                Operation.OFFSET,
                Operation.MODE,
                Operation.RELEASE,
            }
        ),
        DeviceClass.POOL_PUMP: frozenset(
            {
                Operation.READ,
                Operation.TURN_ON,
                Operation.TURN_OFF,
                Operation.LIMIT,
                Operation.PROGRAM,
                Operation.RELEASE,
            }
        ),
        DeviceClass.WATER_HEATER: frozenset(
            {
                Operation.READ,
                Operation.TURN_ON,
                Operation.TURN_OFF,
                Operation.SHED,
                Operation.LOAD_UP,
                Operation.SETPOINT,
                Operation.RELEASE,
            }
        ),
        DeviceClass.EV_CHARGER: frozenset(
            {
                Operation.READ,
                Operation.TURN_ON,
                Operation.TURN_OFF,
                Operation.LIMIT,
                Operation.PROGRAM,
                Operation.RELEASE,
            }
        ),
        DeviceClass.RELAY: frozenset(
            {
                Operation.READ,
                Operation.TURN_ON,
                Operation.TURN_OFF,
                Operation.DUTY_CYCLE,
                Operation.PROGRAM,
                Operation.RELEASE,
            }
        ),
        DeviceClass.METER: frozenset({Operation.READ}),
    }
)
"""The operations that each device class knows (docs: the "least set" of the vocabulary)."""
