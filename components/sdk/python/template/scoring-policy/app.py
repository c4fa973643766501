"""What the policy is, and what the host must record for it. The work is in scoring.py."""

from wit_world import exports
from wit_world.exports.scoring import Description, ScoredUnit
from wit_world.imports.espalier_kernels_types import Probe, Unit
from wit_world.imports.espalier_policy_types import Identity


class Scoring(exports.Scoring):
    def describe(self) -> Description:
        return Description(
            identity=Identity(name="{{name}}", version="0.1.0", summary="{{summary}}"),
            units=[ScoredUnit(unit=Unit.HEAD, probes=[Probe.HEAD_OUTPUT], ablation=False)],
        )
