// A drawing made an image like the data's, as drawing.py describes them. `ink`: brightness, 0 to 1, row by row of a canvas so many
// times finer than the image.
function imageOf(ink, [height, width], fine, { longest, center, by_mass: byMass, threshold, most }) {
  const sizes = [height * fine, width * fine], image = new Float32Array(height * width);
  const profiles = sizes.map((size) => new Float64Array(size)), inked = sizes.map((size) => new Uint8Array(size));
  for (let row = 0, at = 0; row < sizes[0]; row++) {
    for (let column = 0; column < sizes[1]; column++, at++) {
      profiles[0][row] += ink[at];
      profiles[1][column] += ink[at];
      if (ink[at] > threshold) inked[0][row] = inked[1][column] = 1;
    }
  }
  const boxes = inked.map((marks) => [marks.indexOf(1), marks.lastIndexOf(1) + 1]);
  const longer = Math.max(...boxes.map(([first, last]) => last - first));
  if (boxes[0][0] < 0) return image;

  // So many points of the drawing are as long as a pixel of the image.
  const points = Math.max(longer / longest, fine / most);
  // For each pixel along an axis: from where on which points lie in it, and the share of each.
  const shares = [0, 1].map((axis) => {
    const total = profiles[axis].reduce((sum, value) => sum + value, 0);
    const mass = profiles[axis].reduce((sum, value, i) => sum + value * (i + 0.5), 0) / total;
    const middle = byMass[axis] ? mass : (boxes[axis][0] + boxes[axis][1]) / 2;
    return Array.from({ length: [height, width][axis] }, (_, pixel) => {
      const from = middle + (pixel - center[axis]) * points, to = from + points, found = [];
      for (let i = Math.max(0, Math.floor(from)); i < Math.min(sizes[axis], Math.ceil(to)); i++) {
        found.push([i, (Math.min(to, i + 1) - Math.max(from, i)) / points]);
      }
      return found;
    });
  });
  for (let row = 0; row < height; row++) {
    const line = new Float64Array(sizes[1]);
    for (const [i, share] of shares[0][row]) {
      for (let column = 0; column < sizes[1]; column++) line[column] += share * ink[i * sizes[1] + column];
    }
    for (let column = 0; column < width; column++) {
      for (const [i, share] of shares[1][column]) image[row * width + column] += share * line[i];
    }
  }
  return image;
}
