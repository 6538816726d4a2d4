// Numbers in a row, in base 64, as inline.py writes them: first all low bytes, then those above.
function numbers(base64, size) {
  const planes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)), count = planes.length / size;
  return new DataView(planes.map((_, i) => planes[(i % size) * count + Math.floor(i / size)]).buffer);
}

function whole(base64, size) {
  const view = numbers(base64, size), get = size === 1 ? (i) => view.getInt8(i) : (i) => view.getInt16(2 * i, true);
  return Int16Array.from({ length: view.byteLength / size }, (_, i) => get(i));
}

function singles(base64) {
  const view = numbers(base64, 4);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

function halves(base64) {
  const view = numbers(base64, 2);
  return Float32Array.from({ length: view.byteLength / 2 }, (_, i) => {
    const bits = view.getUint16(2 * i, true), exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return (bits & 0x8000 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}
