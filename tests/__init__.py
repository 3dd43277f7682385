"""Tests mirror the tree of src/doorward. `services` and `requirements_plugin` are for all of them."""
