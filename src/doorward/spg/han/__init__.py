"""Adapters to home protocols, one file a protocol, behind :class:`doorward.spg.ports.HanAdapter`."""
