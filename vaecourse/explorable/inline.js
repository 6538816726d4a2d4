// Numbers in a row, little-endian in base 64: bytes, float32, float16.
const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const singles = (base64) => new Float32Array(bytesOf(base64).buffer);

function halves(base64) {
  const bytes = new DataView(bytesOf(base64).buffer);
  return Float32Array.from({ length: bytes.byteLength / 2 }, (_, i) => {
    const bits = bytes.getUint16(2 * i, true), exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return (bits & 0x8000 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}
