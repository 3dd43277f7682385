"""Commands for the terminal, one file a command; :mod:`doorward.cli.main` puts them together."""
