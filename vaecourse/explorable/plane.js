// The plane of two coordinates: where a pointer is on it, and what an arrow key asks for.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

// A place on the plane, to two decimals, with a minus that is as wide as a digit.
const twoDecimals = (value) => value.toFixed(2).replace("-", "\u2212");
const written = (z) => `(${z.map(twoDecimals).join(", ")})`;

// The coordinates below a pointer; outside the plane they are larger than its reach.
function pointed(field, reach, event) {
  const box = field.getBoundingClientRect();
  return [
    reach * (2 * (event.clientX - box.left) / box.width - 1),
    reach * (1 - 2 * (event.clientY - box.top) / box.height),
  ];
}

// Where an arrow key moves a point, a tenth, with Shift a half, in whole hundredths; null for any other key.
function stepped(z, event) {
  const direction = ARROWS[event.key];
  if (!direction || event.ctrlKey || event.altKey || event.metaKey) return null;
  const by = event.shiftKey ? 0.5 : 0.1;
  event.preventDefault();
  return z.map((value, i) => Math.round(100 * (value + by * direction[i])) / 100);
}

const onPlane = (z, reach) => z.map((value) => Math.min(reach, Math.max(-reach, value)));
