"""The tour's utility: four homes under the usual limits, and two companies."""

from doorward.simulate.neighbourhood_plan import Company, Equipment, Home, Plan
from doorward.wire.vocabulary import DeviceClass

COMPANY = "brightgrid"
OTHER = "sunfold"

MONITORED = Home("SP-1", "SPG-1", "Maria Lopez", (
    Equipment("TH-1", DeviceClass.THERMOSTAT, "Thermostat", rated_w=5000),
    Equipment("HP-1", DeviceClass.HEAT_PUMP, "Heat pump", rated_w=3500),
    Equipment("PP-1", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
))  # fmt: skip
"""Scenario 1 happens here; later a device here lies, and the customer withdraws the permission."""
CONTROLLED = Home("SP-2", "SPG-2", "Sam Okafor", (
    Equipment("TH-2", DeviceClass.THERMOSTAT, "Thermostat", rated_w=5000),
    Equipment("HP-2", DeviceClass.HEAT_PUMP, "Heat pump", rated_w=3500),
    Equipment("PP-2", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
    Equipment("EV-2", DeviceClass.EV_CHARGER, "Car charger", "ocpp1.6", 7400),
    Equipment("EV-3", DeviceClass.EV_CHARGER, "Second charger", "ocpp2.0.1", 7400),
))  # fmt: skip
"""Scenario 2 happens here; later a device here does not answer any more."""
TALKATIVE = Home("SP-3", "SPG-3", "Lena Berg", (
    Equipment("PP-3", DeviceClass.POOL_PUMP, "Pool pump", rated_w=1500),
))  # fmt: skip
"""The other company's only home: here it says more than it may."""
DARK = Home("SP-4", "SPG-4", "Noah Weiss", (
    Equipment("WH-4", DeviceClass.WATER_HEATER, "Water heater", rated_w=4500),
))  # fmt: skip
"""Its gateway goes off."""

TOUR = Plan(
    homes=(MONITORED, CONTROLLED, TALKATIVE, DARK),
    parties=(
        Company(COMPANY, "BrightGrid", "premium", ("SP-1", "SP-2", "SP-4")),
        Company(OTHER, "Sunfold Energy", "standard", ("SP-3",)),
    ),
)
