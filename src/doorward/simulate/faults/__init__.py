"""Faults on real processes, judged by four ledgers. Read ``scene.py``, ``judge.py``, then any fault."""
