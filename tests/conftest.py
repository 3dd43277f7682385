"""What every test may use; the parts stand in modules of their own."""

pytest_plugins = ["tests.requirements_plugin", "tests.services"]
