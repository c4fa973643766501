// Exact match: the share of answers that are one of their references, but for white space at the ends.

import samples from "espalier:kernels/samples@{{wit-version}}";

export const metric = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", summary: "{{summary}}" };
  },

  evaluate() {
    const count = samples.count();
    if (count === 0) throw "the data has no samples, expected prompts with references";
    let right = 0;
    for (let index = 0; index < count; index++) {
      // The model's answer, or the one that the data gives.
      const answer = samples.answer(index).trim();
      const references = samples.get(index).references.map((reference) => reference.trim());
      if (references.includes(answer)) right += 1;
    }
    return [{ name: "exact-match", value: right / count, standardError: null }];
  },
};
