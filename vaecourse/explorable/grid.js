// A function over the plane by its values on a grid, between them by cubic convolution, as grid.py describes it.
function gridOf(element, reach) {
  const values = singles(element.dataset.grid), side = Math.sqrt(values.length), last = side - 1;
  const confined = Number(element.dataset.confined), density = last / (2 * reach); // grid points a unit of length

  // The grid with one more point on each side, on the parabola through the three next to it.
  const wide = side + 2, padded = new Float64Array(wide * wide);
  for (let row = 0; row < side; row++) padded.set(values.subarray(row * side, (row + 1) * side), (row + 1) * wide + 1);
  const extend = (at, inward) => { padded[at] = 3 * padded[at + inward] - 3 * padded[at + 2 * inward] + padded[at + 3 * inward]; };
  for (let row = 1; row <= side; row++) {
    extend(row * wide, 1);
    extend(row * wide + wide - 1, -1);
  }
  for (let column = 0; column < wide; column++) {
    extend(column, wide);
    extend((wide - 1) * wide + column, -wide);
  }

  // Keys' weights of the points at -1, 0, 1, 2 for a place t between 0 and 1, and their derivatives.
  const weights = (t) => [
    (-t + 2 * t ** 2 - t ** 3) / 2, (2 - 5 * t ** 2 + 3 * t ** 3) / 2, (t + 4 * t ** 2 - 3 * t ** 3) / 2, (t ** 3 - t ** 2) / 2,
  ];
  const slopes = (t) => [
    (-1 + 4 * t - 3 * t ** 2) / 2, (-10 * t + 9 * t ** 2) / 2, (1 + 8 * t - 9 * t ** 2) / 2, (3 * t ** 2 - 2 * t) / 2,
  ];

  function at(z) {
    const nearest = onPlane(z, reach), places = nearest.map((coordinate) => (coordinate / reach + 1) / 2 * last);
    const cells = places.map((place) => Math.min(last - 1, Math.max(0, Math.floor(place))));
    const [t1, t2] = places.map((place, i) => place - cells[i]);
    const sum = (across, up) => {
      let total = 0;
      for (let i = 0; i < 4; i++) {
        for (let j = 0; j < 4; j++) total += up[i] * across[j] * padded[(cells[1] + i) * wide + cells[0] + j];
      }
      return total;
    };
    return { nearest, sum, t1, t2 };
  }

  return {
    value(z) {
      const { nearest, sum, t1, t2 } = at(z);
      return sum(weights(t1), weights(t2)) + (confined / 2) * nearest.reduce((total, near, i) => total + z[i] ** 2 - near ** 2, 0);
    },
    // Beyond an edge what lies inside no longer changes across it.
    gradient(z) {
      const { nearest, sum, t1, t2 } = at(z);
      const inner = [sum(slopes(t1), weights(t2)), sum(weights(t1), slopes(t2))];
      return z.map((coordinate, i) => (coordinate === nearest[i] ? density * inner[i] : confined * coordinate));
    },
  };
}
