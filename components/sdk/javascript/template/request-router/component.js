// Least busy: the variant with the fewest requests answers; of equals, the first.

export const routing = {
  describe() {
    return { name: "{{name}}", version: "0.1.0", summary: "{{summary}}" };
  },

  // What the operator sets with `--set KEY=VALUE`. A setting that the router does not know must be refused.
  configure(settings) {
    if (settings.length > 0) throw `found the setting "${settings[0].key}", expected none`;
  },

  // Indices of variants in the order in which they are tried.
  route(_request, variants) {
    const requests = (index) => variants[index].running + variants[index].waiting;
    // The sort is stable, so of equals the first stays first.
    const order = [...variants.keys()].sort((a, b) => requests(a) - requests(b));
    return { order, shadow: null };
  },
};
