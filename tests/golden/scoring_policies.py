"""The scores of every scoring policy on small recorded traces, by its formula, in NumPy and float64.

Why: the guests compute through host tensors in float32; this file shares no code with them and says what they must say. The
traces are random, as a policy's formula does not care where they come from; that the host records the right ones is tested
in host/model. What a model loses without layers is a table here.

Run: python3 tests/golden/scoring_policies.py > tests/golden/data/scoring-policies.json
Needs: numpy.
"""

import itertools
import json
import sys

import numpy as np

RANDOM = np.random.default_rng(20261126)
HIDDEN, HEAD_DIM, HEADS, GROUPS, CHANNELS, EXPERTS, ACTIVE, LAYERS = 8, 3, 4, 2, 10, 6, 2, 2
SEQUENCES = (12, 7)


def values(*shape, scale=1.0):
    """Random float32 values, as float64, so that both sides compute with the same numbers."""
    return np.round(RANDOM.normal(0.0, scale, shape), 3).astype(np.float32).astype(np.float64)


def softmax(rows):
    exponentials = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def float32(array):
    return array.astype(np.float32).astype(np.float64)


def attention(tokens, window, sinks):
    """Statistics of attention rows that really are softmaxes over what each token sees."""
    entropy, mean, variance, mass = (np.zeros((tokens, HEADS)) for _ in range(4))
    for token in range(tokens):
        keys = min(token + 1, window or tokens)
        for head in range(HEADS):
            scores = RANDOM.normal(0.0, 0.5 + head, keys)
            row = softmax(np.append(scores, 0.3 * head) if sinks else scores)
            entropy[token, head] = -(row * np.log(row)).sum()
            mean[token, head], variance[token, head] = scores.mean(), scores.var()
            mass[token, head] = row[-1] if sinks else 0.0
    return {
        "attention-entropy": float32(entropy),
        "score-mean": float32(mean),
        "score-variance": float32(variance),
        "sink-mass": float32(mass),
    }


def routing(tokens):
    logits = values(tokens, EXPERTS)
    logits[:, 4] -= 9.0  # an expert that nobody chooses
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, :ACTIVE]
    gates = np.zeros_like(logits)
    np.put_along_axis(gates, chosen, softmax(np.take_along_axis(logits, chosen, 1)), 1)
    norms = np.abs(values(tokens, EXPERTS, scale=3.0)) * (gates > 0)
    return {"router-logits": logits, "router-weights": float32(gates), "expert-output-norm": norms}


class Model:
    def __init__(self, name, experts):
        self.name, self.experts = name, experts
        self.windows = [None, 5]
        self.sequences = []
        for tokens in SEQUENCES:
            layers = []
            for window in self.windows:
                probes = {
                    "head-output": values(tokens, HEADS * HEAD_DIM),
                    "head-output-gradient": values(tokens, HEADS * HEAD_DIM, scale=0.1),
                    "layer-input": values(tokens, HIDDEN),
                    **attention(tokens, window, experts),
                }
                probes["layer-output"] = float32(probes["layer-input"] + values(tokens, HIDDEN, scale=0.4))
                if experts:
                    probes |= routing(tokens)
                else:
                    probes["ffn-activation"] = values(tokens, CHANNELS) * RANDOM.choice([0.01, 1.0], CHANNELS)
                    probes["ffn-activation"] = float32(probes["ffn-activation"])
                    probes["ffn-activation-gradient"] = values(tokens, CHANNELS, scale=0.1)
                layers.append(probes)
            self.sequences.append(layers)
        self.weights = []
        for _ in range(LAYERS):
            heads, groups = HEADS * HEAD_DIM, GROUPS * HEAD_DIM
            layer = {
                "query": values(heads, HIDDEN),
                "key": values(groups, HIDDEN),
                "value": values(groups, HIDDEN),
                "attention-output": values(HIDDEN, heads),
            }
            for expert in range(EXPERTS) if experts else [None]:
                suffix = "" if expert is None else f"-{expert}"
                layer["gate" + suffix] = values(CHANNELS, HIDDEN)
                layer["up" + suffix] = values(CHANNELS, HIDDEN)
                layer["down" + suffix] = values(HIDDEN, CHANNELS)
            self.weights.append(layer)

    def facts(self):
        layer = lambda window: {
            "heads": HEADS,
            "kv_heads": GROUPS,
            "ffn_size": CHANNELS,
            "experts": EXPERTS if self.experts else 0,
            "active_experts": ACTIVE if self.experts else 0,
            "sliding_window": window,
            "attention_sinks": self.experts,
            "parameters_per_unit": {},
        }
        return {
            "architecture": "gpt_oss" if self.experts else "llama",
            "hidden_size": HIDDEN,
            "vocab_size": 100,
            "head_dim": HEAD_DIM,
            "layers": [layer(window) for window in self.windows],
        }

    def traces(self, layer, probe):
        """The values of all sequences."""
        return [sequence[layer][probe] for sequence in self.sequences]

    def expected(self):
        attention = ["head", "kv-group"]
        dense = attention + ["ffn-channel"]
        policies = {"attention-entropy": (attention_entropy, attention), "block-influence": (block_influence, ["layer"])}
        if self.experts:
            policies |= {
                "reap": (reap, ["expert"]),
                "expert-contribution": (expert_contribution, ["expert"]),
                "expert-frequency": (expert_frequency, ["expert"]),
                "expert-voting": (expert_voting, ["expert"]),
                "magnitude": (magnitude, attention + ["expert", "expert-channel"]),
            }
        else:
            policies |= {
                "activation-norm": (activation_norm, dense),
                "activation-sparsity": (activation_sparsity, ["ffn-channel"]),
                "taylor": (taylor, dense),
                "fisher": (fisher, dense),
                "wanda": (wanda, dense),
                "flap": (flap, dense),
                "magnitude": (magnitude, dense),
            }
        scores = {name: per_unit(self, score, units) for name, (score, units) in policies.items()}
        inverse = {"layer": scores["block-influence"]["layer"]}
        inverse |= {"expert": scores["reap"]["expert"]} if self.experts else scores["activation-norm"]
        scores["inverse"] = {unit: [(-np.asarray(s)).tolist() for s in of] for unit, of in inverse.items()}
        return scores


def per_unit(model, score, units):
    of = lambda layer, unit: np.asarray(score(model, layer, unit)).tolist()
    return {unit: [of(layer, unit) for layer in range(LAYERS)] for unit in units}


def heads_or_groups(channels, unit, reduce=np.sum):
    """Scores of channels of the heads' outputs as scores of heads, or of groups as sums over heads."""
    heads = reduce(channels.reshape(HEADS, HEAD_DIM), axis=1)
    return heads if unit == "head" else heads.reshape(GROUPS, -1).sum(axis=1)


def activation(unit):
    return "ffn-activation" if unit == "ffn-channel" else "head-output"


def activation_norm(model, layer, unit):
    means = [np.abs(a).mean(axis=0) ** 2 for a in model.traces(layer, activation(unit))]
    squares = np.sum(means, axis=0)
    if unit == "ffn-channel":
        return np.sqrt(squares)
    return heads_or_groups(squares, unit, lambda channels, axis: np.sqrt(channels.sum(axis=axis)))


def activation_sparsity(model, layer, unit):
    rows = np.concatenate(model.traces(layer, activation(unit)))
    silent = np.abs(rows) < 0.05 * np.sqrt((rows**2).mean(axis=1, keepdims=True))
    return 1.0 - silent.mean(axis=0)


def gate_gradients(model, layer, unit):
    """[sequences, units]: the derivative of the loss by a factor of the unit's output."""
    rows = []
    for a, g in zip(model.traces(layer, activation(unit)), model.traces(layer, activation(unit) + "-gradient")):
        channels = (a * g).sum(axis=0)
        rows.append(channels if unit == "ffn-channel" else heads_or_groups(channels, "head"))
    return np.array(rows)


def of_heads(heads, unit):
    return heads.reshape(GROUPS, -1).sum(axis=1) if unit == "kv-group" else heads


def taylor(model, layer, unit):
    return of_heads(np.abs(gate_gradients(model, layer, unit)).mean(axis=0), unit)


def fisher(model, layer, unit):
    return of_heads(0.5 * (gate_gradients(model, layer, unit) ** 2).mean(axis=0), unit)


def reader(model, layer, unit):
    return model.weights[layer]["down" if unit == "ffn-channel" else "attention-output"]


def wanda(model, layer, unit):
    rows = np.concatenate(model.traces(layer, activation(unit)))
    scores = (np.abs(reader(model, layer, unit)) * np.linalg.norm(rows, axis=0)).mean(axis=0)
    return scores if unit == "ffn-channel" else heads_or_groups(scores, unit)


def flap(model, layer, unit):
    rows = np.concatenate(model.traces(layer, activation(unit)))
    metric = rows.var(axis=0) * (reader(model, layer, unit) ** 2).sum(axis=0)
    scores = (metric - metric.mean()) / metric.std()
    return scores if unit == "ffn-channel" else heads_or_groups(scores, unit, np.mean)


def magnitude(model, layer, unit):
    weights = model.weights[layer]
    norm = lambda name, axis: np.linalg.norm(weights[name], axis=axis)
    channels = lambda suffix: norm("gate" + suffix, 1) * norm("up" + suffix, 1) * norm("down" + suffix, 0)
    if unit == "ffn-channel":
        return channels("")
    if unit == "expert":
        return [channels(f"-{expert}").sum() for expert in range(EXPERTS)]
    if unit == "expert-channel":
        return np.concatenate([channels(f"-{expert}") for expert in range(EXPERTS)])
    rows = lambda name: np.linalg.norm(weights[name].reshape(-1, HEAD_DIM * HIDDEN), axis=1)
    outputs = np.linalg.norm(weights["attention-output"].T.reshape(HEADS, -1), axis=1)
    shared = np.repeat(rows("key") * rows("value"), HEADS // GROUPS)
    return of_heads(rows("query") * outputs * shared, unit)


def attention_entropy(model, layer, unit):
    window, sink = model.windows[layer], 1 if model.experts else 0
    entropies, counted, scores, squares, pairs = 0.0, 0, 0.0, 0.0, 0
    for index, tokens in enumerate(SEQUENCES):
        probes = model.sequences[index][layer]
        for token in range(tokens):
            keys = min(token + 1, window or tokens)
            if keys + sink > 1:
                entropies = entropies + probes["attention-entropy"][token] / np.log(keys + sink)
                counted += 1
            mean = probes["score-mean"][token]
            scores = scores + keys * mean
            squares = squares + keys * (probes["score-variance"][token] + mean**2)
            pairs += keys
    standardised = lambda x: (x - x.mean()) / x.std()
    variance = squares / pairs - (scores / pairs) ** 2
    return of_heads(np.maximum(standardised(entropies / counted), standardised(variance)), unit)


def reap(model, layer, unit):
    gates = np.concatenate(model.traces(layer, "router-weights"))
    norms = np.concatenate(model.traces(layer, "expert-output-norm"))
    routed = (gates > 0).sum(axis=0)
    return np.where(routed > 0, (gates * norms).sum(axis=0) / np.maximum(routed, 1), 0.0)


def expert_contribution(model, layer, unit):
    gates = np.concatenate(model.traces(layer, "router-weights"))
    return (gates * np.concatenate(model.traces(layer, "expert-output-norm"))).mean(axis=0)


def expert_frequency(model, layer, unit):
    return (np.concatenate(model.traces(layer, "router-weights")) > 0).mean(axis=0)


def expert_voting(model, layer, unit):
    preferences = np.argsort(-np.concatenate(model.traces(layer, "router-logits")), axis=1, kind="stable")
    votes = lambda gone: np.bincount(
        [choice for voter in preferences for choice in [e for e in voter if e not in gone][:ACTIVE]], minlength=EXPERTS
    )
    first, gone = votes([]), []
    while len(gone) < EXPERTS:
        now = votes(gone)
        gone.append(min((e for e in range(EXPERTS) if e not in gone), key=lambda e: (now[e], first[e], e)))
    return [gone.index(expert) for expert in range(EXPERTS)]


def block_influence(model, layer, unit):
    x, y = (np.concatenate(model.traces(layer, probe)) for probe in ("layer-input", "layer-output"))
    return [1.0 - ((x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).mean()]


def layer_losses(layers=5):
    """A loss for every set of layers that may be gone, and the order in which greedy removal takes them."""
    losses = {}
    for size in range(layers):
        for gone in itertools.combinations(range(layers), size + 1):
            losses[gone] = round(float(RANDOM.uniform(0.5, 1.5) * (size + 1)), 3)
    order = []
    while len(order) < layers:
        trials = sorted((losses[tuple(sorted([*order, layer]))], layer) for layer in range(layers) if layer not in order)
        last = len(order) + 1 >= (layers + 1) // 2
        order += [layer for _, layer in (trials if last else trials[:1])]
    table = [{"gone": list(gone), "loss": loss} for gone, loss in losses.items()]
    return {"layers": layers, "losses": table, "expected": [order.index(layer) for layer in range(layers)]}


def written(array):
    return {"shape": list(array.shape), "values": [float(np.float32(value)) for value in array.ravel()]}


def main():
    models = [Model("dense", experts=False), Model("mixture", experts=True)]
    document = {
        "models": [
            {
                "name": model.name,
                "facts": model.facts(),
                "sequences": [
                    [{probe: written(array) for probe, array in layer.items()} for layer in sequence]
                    for sequence in model.sequences
                ],
                "weights": [{name: written(matrix) for name, matrix in layer.items()} for layer in model.weights],
                "expected": model.expected(),
            }
            for model in models
        ],
        "ablation": layer_losses(),
    }
    shorten = lambda value: float(f"{value:.9g}") if isinstance(value, float) else value
    walk = lambda item: (
        {key: walk(value) for key, value in item.items()}
        if isinstance(item, dict)
        else [walk(value) for value in item] if isinstance(item, list) else shorten(item)
    )
    json.dump(walk(document), sys.stdout, separators=(",", ":"))
    print()


main()
