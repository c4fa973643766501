"""Least busy: the variant with the fewest requests answers; of equals, the first."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.routing import Choice, Request, Setting, VariantStatus
from wit_world.imports.types import Identity


class Routing(exports.Routing):
    def describe(self) -> Identity:
        return Identity(name="{{name}}", version="0.1.0", summary="{{summary}}")

    def configure(self, settings: list[Setting]) -> None:
        """What the operator sets with `--set KEY=VALUE`. A setting that the router does not know must be refused."""
        if settings:
            raise Err(f'found the setting "{settings[0].key}", expected none')

    def route(self, request: Request, variants: list[VariantStatus]) -> Choice:
        """Indices of variants in the order in which they are tried."""
        # The sort is stable, so of equals the first stays first.
        order = sorted(range(len(variants)), key=lambda index: variants[index].running + variants[index].waiting)
        return Choice(order=order, shadow=None)
