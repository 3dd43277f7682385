"""What every test may use; the parts stand in modules of their own."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.requirements_plugin", "tests.services"]

# That a machine is busy is no failure of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
