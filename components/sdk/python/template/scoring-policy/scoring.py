"""Activation norm: a head whose output is small on calibration text matters little.

The score of a head is the Euclidean norm over its channels c of

    s_c = sqrt( sum over sequences of ( 1/T * sum over t of |a_t,c| )^2 )

with a the heads' output and T the tokens of a sequence (Minitron, arXiv 2407.14679, section 2.2).
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.calibration import Traces
from wit_world.imports.espalier_kernels_types import Probe, Unit
from wit_world.imports.model import ModelShape
from wit_world.imports.tensor import Tensor


class Job(exports.scoring.Job):
    """One pass over the calibration text."""

    def __init__(self, head_dim: int) -> None:
        self.head_dim = head_dim
        # For each layer, the sum over the sequences so far of s_c^2. The values stay in the host.
        self.sums: dict[int, Tensor] = {}

    @classmethod
    def begin(cls, shape: ModelShape, units: list[Unit]) -> "Job":
        return cls(shape.head_dim)

    def observe(self, layer: int, traces: Traces) -> None:
        """Called for each sequence and layer."""
        # Leaving `with` gives a tensor back to the host at once, not when Python collects it.
        with traces.values(Probe.HEAD_OUTPUT) as activations, activations.mean_abs() as mean:
            if layer not in self.sums:
                self.sums[layer] = Tensor.zeros(mean.shape())
            self.sums[layer].accumulate_squares(mean)

    def scores(self, layer: int, unit: Unit) -> list[float]:
        """Called at the end, layer by layer: one number for each head, low goes first."""
        if layer not in self.sums:
            raise Err(f"layer {layer} was never observed")
        with self.sums[layer].square_root() as channels:
            with channels.grouped_l2_norm(self.head_dim) as heads:
                return heads.read()
