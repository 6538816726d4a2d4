// What chains walk over, as targets.py describes it: the gradient of the potential U = -log p, and what is counted of the chains.

// A mixture. A mode: the logarithm of its density's peak, weight included; its mean; its precision a b / b d.
function mixture(modes, each) {
  return {
    // The modes' precisions times the way from their means, each mode by its share of the density at z.
    gradient([z1, z2]) {
      const logs = modes.map(([peak, m1, m2, a, b, d]) => {
        const x = z1 - m1, y = z2 - m2;
        return peak - (a * x * x + 2 * b * x * y + d * y * y) / 2;
      });
      const highest = Math.max(...logs);
      let total = 0, g1 = 0, g2 = 0;
      modes.forEach(([, m1, m2, a, b, d], k) => {
        const share = Math.exp(logs[k] - highest), x = z1 - m1, y = z2 - m2;
        total += share;
        g1 += share * (a * x + b * y);
        g2 += share * (b * x + d * y);
      });
      return [g1 / total, g2 / total];
    },
    // The share of the chains nearest to each mean, or how many means have a chain.
    shares(chains) {
      if (modes.length === 1) return [];
      const at = modes.map(() => 0);
      for (const [z1, z2] of chains) {
        const distances = modes.map(([, m1, m2]) => (z1 - m1) ** 2 + (z2 - m2) ** 2);
        at[distances.indexOf(Math.min(...distances))]++;
      }
      return each ? at.map((n) => percent(n / chains.length)) : [at.filter(Boolean).length];
    },
  };
}

// A potential on a grid, and the levels below which it holds given shares of the mass.
function potential(grid, levels) {
  return {
    gradient: grid.gradient,
    shares(chains) {
      const heights = chains.map(grid.value);
      return levels.map((level) => percent(heights.filter((height) => height <= level).length / chains.length));
    },
  };
}

const percent = (share) => `${Math.round(100 * share)} %`;

function targetOf({ dataset }, reach) {
  if (dataset.modes) return mixture(JSON.parse(dataset.modes), Number(dataset.shares));
  return potential(gridOf({ dataset }, reach), JSON.parse(dataset.levels));
}
