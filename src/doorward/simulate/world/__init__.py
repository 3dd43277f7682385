"""The real CCS and the real gateways in a world whose time, order, network, crashes and devices are a seed's.

Everything that decides is the code that runs in production. What is simulated stands in ``loop`` (time and
order), ``disk`` (commits and crashes), ``network``, ``devices`` and ``third_party``; ``oracle`` judges.
"""
