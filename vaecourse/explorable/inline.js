// Numbers in a row, in base 64, as inline.py writes them: first all low bytes, then those above. By plain loops: there are many.
function numbers(base64, size) {
  const text = atob(base64), count = text.length / size, bytes = new Uint8Array(text.length);
  for (let plane = 0, at = 0; plane < size; plane++) {
    for (let i = 0; i < count; i++) bytes[i * size + plane] = text.charCodeAt(at++);
  }
  return new DataView(bytes.buffer);
}

function singles(base64) {
  const view = numbers(base64, 4), row = new Float32Array(view.byteLength / 4);
  for (let i = 0; i < row.length; i++) row[i] = view.getFloat32(4 * i, true);
  return row;
}

function halves(base64) {
  const view = numbers(base64, 2), row = new Float32Array(view.byteLength / 2);
  const powers = Array.from({ length: 32 }, (_, exponent) => 2 ** (exponent - 15));
  for (let i = 0; i < row.length; i++) {
    const bits = view.getUint16(2 * i, true), exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    const size = exponent ? powers[exponent] * (1 + fraction) : powers[1] * fraction;
    row[i] = bits & 0x8000 ? -size : size;
  }
  return row;
}

// Whole numbers of one or of two bytes.
function whole(base64, size) {
  const view = numbers(base64, size), row = new Int16Array(view.byteLength / size);
  for (let i = 0; i < row.length; i++) row[i] = size === 1 ? view.getInt8(i) : view.getInt16(2 * i, true);
  return row;
}
