"""A device model is data: what breaks a rule is said with file, key and rule."""

from pathlib import Path

import pytest

from doorward.spg.han.device_model import BUILT_IN, ModelError, load_model, load_models
from doorward.spg.han.modbus import ModbusAdapter
from doorward.spg.ports import HanCommand
from doorward.wire.messages import ProvisionedDevice
from doorward.wire.vocabulary import CLASS_OPERATIONS, DeviceClass, Operation
from tests.spg.han.street import Heard, Street, eventually, real_clock

PUMP = (BUILT_IN / "sim_pool_pump.toml").read_text()


def written(folder: Path, text: str) -> Path:
    file = folder / "vendor.toml"
    file.write_text(text)
    return file


def test_every_built_in_model_is_sound_and_knows_all_that_its_class_does() -> None:
    models = load_models()
    assert len(models) == 6
    for model in models.values():
        assert model.capabilities == CLASS_OPERATIONS[model.device_class]


@pytest.mark.parametrize(
    ("was", "becomes", "key", "rule"),
    [
        ('name = "sim-pool-pump"', 'name = ""', "name", "must not be empty"),
        ('device_class = "pool_pump"', 'device_class = "toaster"', "device_class", "toaster"),
        ('device_class = "pool_pump"', "", "(file)", "device_class"),
        ("address = 0, unit", "adress = 0, unit", "points.<one of", "adress"),
        ('unit = "kW"', 'unit = "hp"', "points.limit_w.unit", "'hp' is not one of"),
        ("scale = 0.001", "scale = 0", "points.limit_w.scale", "must not be 0"),
        ("address = 20\n", "address = 70000\n", "points.limit_w.address", "0 to 65535"),
        ("max = 5000\nwrite", "min = 9000\nmax = 5000\nwrite", "points.limit_w.min", "above max"),
        (
            'kind = "holding", address = 20',
            'kind = "input", address = 20',
            "points.limit_w.write.kind",
            "only",
        ),
        ('kind = "coil", address = 0', 'kind = "holding", address = 0', "points.on.write.kind", "coil"),
        (", above = 0 }]", "}]", "state.fault[0]", "exactly one of"),
        ('point = "running", is', 'point = "walking", is', "state.running[0].point", "'walking'"),
        ("[operations.limit]", "[operations.shed]", "operations.shed", "not an operation of class pool_pump"),
        ("[operations.limit]", "[operations.release]", "operations.release", "the adapter's own"),
        ('from = "watts" }]', 'from = "kilowatts" }]', "operations.limit.writes[0].from", "'kilowatts'"),
        ('at_most = "watts"', 'at_most = "amps"', "operations.limit.checks[0]", "'amps'"),
        ('"on", "limit_w", "program"', '"on", "program"', "operations.limit.writes[0].point", "snapshot"),
        ('"on", "limit_w", "program"', '"on", "limit_w", "speed_percent", "program"', "snapshot", "written"),
        ('begins = "fault"', 'begins = "mood"', "notices[2].begins", "'mood' is not one of"),
        ("rows = 24", "rows = 99", "program.rows", "registers"),
        ('{ key = "at" },', "", "program.fields", "the first field is 'at'"),
        ("[serial]", "[serial", "(file)", "is not TOML"),
        ("snapshot =", "settle_s = 900\nsnapshot =", "settle_s", "at most 30"),
    ],
)
def test_a_bad_model_is_refused_with_file_key_and_rule(
    tmp_path: Path, was: str, becomes: str, key: str, rule: str
) -> None:
    assert was in PUMP
    file = written(tmp_path, PUMP.replace(was, becomes, 1))
    with pytest.raises(ModelError) as error:
        load_model(file)
    assert error.value.file == str(file)
    assert error.value.key.startswith(key)
    assert rule in error.value.rule


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    written(tmp_path, PUMP)
    with pytest.raises(ModelError, match="'sim-pool-pump' is already in"):
        load_models(tmp_path)


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load_models(tmp_path / "none")


async def test_a_vendor_adds_a_model_without_code(tmp_path: Path, street: Street, heard: Heard) -> None:
    """The pump again, under a vendor's own name, with a point that the built-in model lacks."""
    folder = tmp_path / "vendor"
    folder.mkdir()
    written(folder, PUMP.replace("sim-pool-pump", "acme-pump").replace("value = 1103", "value = 9999"))
    world = await street.start(street.device(DeviceClass.POOL_PUMP))
    device = ProvisionedDevice(
        id="p",
        service_point="sp",
        device_class=DeviceClass.POOL_PUMP,
        protocol="modbus",
        model="acme-pump",
        address=world.addresses["pool_pump"],
    )
    adapter = ModbusAdapter(real_clock(), model_directories=(folder,))
    adapter.provision([device])
    await adapter.start(heard)
    try:
        acted = await adapter.command(device, HanCommand(operation=Operation.LIMIT, body={"watts": 250}))
        assert acted.followed
        await eventually(lambda: street.acts("pool_pump") != [])
    finally:
        await adapter.stop()


def test_the_model_in_the_guide_is_sound(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "howto" / "add-a-device-model.md").read_text()
    (example,) = [block.partition("```")[0] for block in guide.split("```toml\n")[1:]]
    model = load_model(written(tmp_path, example))
    assert model.capabilities == {
        Operation.READ,
        Operation.TURN_ON,
        Operation.TURN_OFF,
        Operation.RELEASE,
    }
