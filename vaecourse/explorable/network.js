// Networks in a page: layers as network.py describes them, run one after another over flat arrays, images channel by channel.

// The inner product of two stretches of so many numbers; four sums, which a processor adds up side by side.
function inner(a, from, b, start, count) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
  for (; i + 3 < count; i += 4) {
    s0 += a[from + i] * b[start + i];
    s1 += a[from + i + 1] * b[start + i + 1];
    s2 += a[from + i + 2] * b[start + i + 2];
    s3 += a[from + i + 3] * b[start + i + 3];
  }
  for (; i < count; i++) s0 += a[from + i] * b[start + i];
  return s0 + s1 + s2 + s3;
}

function linear({ inputs, outputs, finest }, take) {
  let weight = take(finest ? outputs : inputs * outputs);
  if (finest) {
    const largest = weight, steps = take.steps(inputs * outputs);
    weight = new Float32Array(steps.length);
    for (let o = 0, at = 0; o < outputs; o++) {
      for (let i = 0; i < inputs; i++, at++) weight[at] = (largest[o] / finest) * steps[at];
    }
  }
  const bias = take(outputs);
  return (x) => bias.map((start, o) => start + inner(weight, o * inputs, x, 0, inputs));
}

// A convolution: for each place of the output the patch of the input below the kernel, and its product with each channel's kernel.
function convolution({ kernel: [tall, wide], stride, padding, inputs, outputs }, take) {
  const [channelsIn, heightIn, widthIn] = inputs, [channels, height, width] = outputs;
  const count = channelsIn * tall * wide, weight = take(channels * count), bias = take(channels);
  const patch = new Float32Array(count);
  return (x) => {
    const out = new Float32Array(channels * height * width);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        let at = 0;
        for (let channel = 0; channel < channelsIn; channel++) {
          for (let a = 0; a < tall; a++) {
            const down = row * stride[0] + a - padding[0], line = (channel * heightIn + down) * widthIn;
            for (let b = 0; b < wide; b++) {
              const across = column * stride[1] + b - padding[1];
              const inside = down >= 0 && down < heightIn && across >= 0 && across < widthIn;
              patch[at++] = inside ? x[line + across] : 0;
            }
          }
        }
        for (let o = 0; o < channels; o++) {
          out[(o * height + row) * width + column] = bias[o] + inner(weight, o * count, patch, 0, count);
        }
      }
    }
    return out;
  };
}

// Its transpose: each place of the input adds to the patch of the output below the kernel.
function transposed({ kernel: [tall, wide], stride, padding, inputs, outputs }, take) {
  const [channelsIn, heightIn, widthIn] = inputs, [channels, height, width] = outputs, places = heightIn * widthIn;
  const given = take(channelsIn * channels * tall * wide), bias = take(channels), taps = channels * tall * wide;
  const weight = given.map((_, i) => given[(i % channelsIn) * taps + Math.floor(i / channelsIn)]); // input channels last
  return (x) => {
    const out = new Float32Array(channels * height * width);
    bias.forEach((value, o) => out.fill(value, o * height * width, (o + 1) * height * width));
    const turned = x.map((_, i) => x[(i % channelsIn) * places + Math.floor(i / channelsIn)]);
    for (let place = 0; place < places; place++) {
      const top = Math.floor(place / widthIn) * stride[0] - padding[0], left = (place % widthIn) * stride[1] - padding[1];
      for (let a = Math.max(0, -top); a < Math.min(tall, height - top); a++) {
        for (let b = Math.max(0, -left); b < Math.min(wide, width - left); b++) {
          for (let o = 0; o < channels; o++) {
            const tap = ((o * tall + a) * wide + b) * channelsIn;
            out[(o * height + top + a) * width + left + b] += inner(weight, tap, turned, place * channelsIn, channelsIn);
          }
        }
      }
    }
    return out;
  };
}

function upsample({ inputs: [channels, height, width], outputs: [, tall, wide] }) {
  const down = tall / height, across = wide / width;
  return (x) => {
    const out = new Float32Array(channels * tall * wide);
    let at = 0;
    for (let line = 0; line < channels * tall; line++) {
      for (let column = 0; column < wide; column++) out[at++] = x[Math.floor(line / down) * width + Math.floor(column / across)];
    }
    return out;
  };
}

const each = (f) => () => (x) => x.map(f);
const LAYERS = {
  linear,
  convolution,
  transposed,
  upsample,
  residual: ({ layers }, take) => {
    const correction = inTurn(layers, take);
    return (x) => {
      const more = correction(x);
      return x.map((value, i) => value + more[i]);
    };
  },
  first: ({ entries }) => (x) => x.subarray(0, entries),
  tanh: each(Math.tanh),
  silu: each((value) => value / (1 + Math.exp(-value))),
  relu: each((value) => Math.max(0, value)),
  leaky: ({ slope }) => (x) => x.map((value) => (value > 0 ? value : slope * value)),
  sigmoid: each((value) => 1 / (1 + Math.exp(-value))),
};

function inTurn(layers, take) {
  const steps = layers.map((layer) => LAYERS[layer.kind](layer, take));
  return (x) => steps.reduce((values, step) => step(values), x);
}

// Takes so many numbers from a row of them, each time the next ones.
function taker(row) {
  let at = 0;
  return (count) => row.subarray(at, (at += count));
}

// The network whose layers and parameters are an element's: one row of numbers -> one row of numbers.
function network({ dataset }, name) {
  const take = taker(halves(dataset[name])), steps = dataset[`${name}Steps`];
  if (steps) take.steps = taker(whole(steps, Number(dataset[`${name}Bytes`])));
  const run = inTurn(JSON.parse(dataset[`${name}Layers`]), take);
  return (x) => run(Float32Array.from(x));
}
