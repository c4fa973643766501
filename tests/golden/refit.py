"""What is left of a projection when some of its inputs go, by NumPy in float64.

Writes `data/refit.json`: random inputs whose means are not 0, weights, a bias, the inputs that stay, and

* the weights on those that give the old output best, held where they were by a ridge (relative to the mean square of the
  inputs), without a bias and with the bias as the weight of one more input that is always 1;
* the bias alone that makes up for the mean of what goes (FLAP, An et al., arXiv 2312.11983).

The fit is `lstsq` of the rows together with one row for the pull on each weight, where the host solves normal equations.

    python3 tests/golden/refit.py

Needs: numpy.
"""

import json
import pathlib

import numpy as np

TOKENS, INPUTS, OUTPUTS, RIDGE = 40, 12, 5, 0.01


def fitted(inputs, weights, kept):
    pull = RIDGE * (inputs**2).sum(axis=0).mean()
    rows = np.concatenate([inputs[:, kept], np.sqrt(pull) * np.eye(len(kept))])
    targets = np.concatenate([inputs @ weights.T, np.sqrt(pull) * weights[:, kept].T])
    return np.linalg.lstsq(rows, targets, rcond=None)[0].T


def main():
    random = np.random.default_rng(20261127)
    single = lambda values: values.astype(np.float32).astype(np.float64)
    inputs = single(random.normal(0.4, 1.0, (TOKENS, INPUTS)))
    weights, bias = single(random.normal(size=(OUTPUTS, INPUTS))), single(random.normal(size=OUTPUTS))
    kept = [0, 2, 3, 5, 6, 9, 11]
    gone = [index for index in range(INPUTS) if index not in kept]

    constant = np.concatenate([inputs, np.ones((TOKENS, 1))], axis=1)
    with_bias = fitted(constant, np.concatenate([weights, bias[:, None]], axis=1), [*kept, INPUTS])
    document = {
        "tokens": TOKENS,
        "inputs": inputs,
        "weights": weights,
        "bias": bias,
        "kept": kept,
        "ridge": RIDGE,
        "fitted": fitted(inputs, weights, kept),
        "fitted_with_bias": with_bias[:, :-1],
        "fitted_bias": with_bias[:, -1],
        "compensated_bias": bias + weights[:, gone] @ inputs[:, gone].mean(axis=0),
    }
    flat = {name: value.ravel().tolist() if isinstance(value, np.ndarray) else value for name, value in document.items()}
    path = pathlib.Path(__file__).parent / "data" / "refit.json"
    path.write_text(json.dumps(flat, separators=(",", ":")) + "\n", encoding="utf-8")


main()
