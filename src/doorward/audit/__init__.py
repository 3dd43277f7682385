"""The auditor: whether the records of the CCS and of gateways are whole, agree, and show permission for all.

Nothing here trusts what it reads, and nothing is held in memory that grows with a record.
"""
