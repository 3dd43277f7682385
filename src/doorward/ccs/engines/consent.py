"""The consent authority, in-process for the demo: its key lies in a file that only its owner reads."""

from doorward.consent.keys import AuthorityKey


class LocalConsentAuthority(AuthorityKey):
    """Signs whatever the CCS asks, with ``consent.key`` in ``directory``, which it makes at first use.

    A :class:`~doorward.ccs.ports.ConsentAuthority`. Whoever takes over the CCS has this key too: production
    refuses to start with it (docs/security/authority.md).
    """
