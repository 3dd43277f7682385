"""Machinery without any knowledge of Doorward's field: clock, ids, batches. It imports nothing of ours."""
