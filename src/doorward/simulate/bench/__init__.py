"""How fast Doorward is, measured from outside: real processes, real links, nobody's word but the kernel's.

Read :mod:`run` first: what is started, and in which order it is measured. :mod:`plan` says what is measured;
:mod:`town` sets a utility up in bulk, and the processes read what they need of it in their :mod:`briefs`;
:mod:`gateways`, :mod:`load` and :mod:`floor` are those processes; :mod:`ledger` compares what was asked,
answered and done; :mod:`report` puts it in a table.
"""
