"""Exact match: the share of answers that are one of their references, but for white space at the ends."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.metric import Measurement
from wit_world.imports import samples
from wit_world.imports.espalier_policy_types import Identity


class Metric(exports.Metric):
    def describe(self) -> Identity:
        return Identity(name="{{name}}", version="0.1.0", summary="{{summary}}")

    def evaluate(self) -> list[Measurement]:
        count = samples.count()
        if count == 0:
            raise Err("the data has no samples, expected prompts with references")
        right = 0
        for index in range(count):
            # The model's answer, or the one that the data gives.
            answer = samples.answer(index).strip()
            references = [reference.strip() for reference in samples.get(index).references]
            right += answer in references
        return [Measurement(name="exact-match", value=right / count, standard_error=None)]
