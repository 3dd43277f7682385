"""Keys and authorities are made at first use, by whichever process comes first."""

import subprocess
import sys
from pathlib import Path

PROCESSES = 6
WAIT_S_MAX = 60
OPEN = """
import random, sys
from pathlib import Path
from doorward.ccs.engines.authority import CertificateAuthority
from doorward.ccs.engines.consent import LocalConsentAuthority
from doorward.ccs.engines.keys import load_keys

place = Path(sys.argv[1])
sys.stdin.read()
authority = CertificateAuthority(place / "authority", lambda: 1_800_000_000_000_000)
server = authority.server("link", ["localhost"])
keys = load_keys(place / "keys", random.SystemRandom())
consent = LocalConsentAuthority(place / "authority")
print(authority.fingerprint, consent.fingerprint, keys.link.hex(), keys.token.kid, keys.webhook.kid)
print(server.certificate.read_text(), server.key.read_text())
"""


def test_processes_that_start_at_once_on_an_empty_directory_have_the_same_keys(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    said = {process.communicate(timeout=WAIT_S_MAX)[0] for process in started}
    assert [process.returncode for process in started] == [0] * PROCESSES
    assert len(said) == 1
