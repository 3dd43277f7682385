"""Pure decisions. The time and the facts come in as arguments; nothing here does I/O or reads a clock."""
