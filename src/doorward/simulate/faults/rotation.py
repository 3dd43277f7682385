"""Keys are changed under load: nobody is refused while they overlap, the old ones are after the cut-off (P25).

The keys that sign access tokens and webhooks, in their three steps, with a rolling restart after each.
"""

from http import HTTPStatus

from doorward.ccs.engines.keys import Rotated, Rotation
from doorward.simulate.faults.report import Report
from doorward.simulate.faults.scene import scene
from doorward.simulate.faults.stage import Stage
from doorward.simulate.faults.workers import HOMES, WORKERS, replace_all
from doorward.simulate.local_utility import PRODUCTION


def key_rotation(stage: Stage, report: Report) -> None:
    """Change both keys again and again; a token from before is good until its key is retired."""
    with scene(stage.rng, PRODUCTION, workers=WORKERS, homes=HOMES) as running:
        place = str(running.utility.directory / "ccs")
        prober = running.prober()
        running.begin()
        for _ in range(stage.times(full=5, quick=1)):
            prober.renew()
            for step in Rotation:
                for name in Rotated:
                    running.utility.command("keys", "rotate", name, "--dir", place)
                replace_all(running)
                status = prober.ask(keep_token=True)
                wanted = HTTPStatus.UNAUTHORIZED if step is Rotation.RETIRED else HTTPStatus.ACCEPTED
                said = f"once the next key {step}, an old token is answered {wanted.value}, not {status}"
                report.require(status == wanted, said)
                report.did[f"keys of tokens and webhooks: {step}"] += 1
        running.end()
        refused = [told for trader in running.traders for told in trader.told if not told.id]
        report.require(not refused, f"{len(refused)} requests were refused or unanswered meanwhile")
        report.verdict = running.verdict(refusals=("not-authenticated",))
