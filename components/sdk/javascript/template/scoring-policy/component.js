// Activation norm: a head whose output is small on calibration text matters little.
//
// The score of a head is the Euclidean norm over its channels c of
//
//     s_c = sqrt( sum over sequences of ( 1/T * sum over t of |a_t,c| )^2 )
//
// with a the heads' output and T the tokens of a sequence (Minitron, arXiv 2407.14679, section 2.2).

import { Tensor } from "espalier:kernels/tensor@{{wit-version}}";

/** One pass over the calibration text. */
class Job {
  constructor(headDim) {
    this.headDim = headDim;
    // For each layer, the sum over the sequences so far of s_c^2. The values stay in the host.
    this.sums = new Map();
  }

  static begin(shape, _units) {
    return new Job(shape.headDim);
  }

  // Called for each sequence and layer.
  observe(layer, traces) {
    inWords(() => {
      // Leaving the block gives what `using` names back to the host at once, not when JavaScript collects it.
      using activations = traces.values("head-output");
      using mean = activations.meanAbs();
      if (!this.sums.has(layer)) this.sums.set(layer, Tensor.zeros(mean.shape()));
      this.sums.get(layer).accumulateSquares(mean);
    });
  }

  // Called at the end, layer by layer: one number for each head, low goes first.
  scores(layer, _unit) {
    return inWords(() => {
      const sum = this.sums.get(layer);
      if (sum === undefined) throw `layer ${layer} was never observed`;
      using channels = sum.squareRoot();
      using heads = channels.groupedL2Norm(this.headDim);
      return [...heads.read()];
    });
  }
}

/** Throws a text, which the operator reads, where the host refuses something or this file has a mistake. */
function inWords(work) {
  try {
    return work();
  } catch (error) {
    throw error?.payload?.val ?? String(error);
  }
}

export const scoring = {
  // What the host must record for the policy, and for which kinds of units.
  describe() {
    return {
      identity: { name: "{{name}}", version: "0.1.0", summary: "{{summary}}" },
      units: [{ unit: "head", probes: ["head-output"], ablation: false }],
    };
  },

  Job,
};
