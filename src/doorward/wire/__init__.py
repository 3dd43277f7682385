"""All that the CCS and the gateway share: messages, topics, codec, reasons, signatures. No I/O.

Read :mod:`doorward.wire.messages` first: it is what crosses the link.
"""
