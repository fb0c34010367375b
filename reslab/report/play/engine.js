"use strict";
// The networks, run in plain JavaScript: plain and residual networks of basic blocks on small images, with a gate on every block.
//
// Maps are [image][row][column][channel]. A convolution computes four channels of two images at a time, which keeps eight sums in registers, and skips the taps that
// fall on padding: of 8×8 maps that is a sixth, of 2×2 maps more than half.
//
// Why no library: the WebAssembly of onnxruntime-web 1.30 alone is 14 MB and tfjs 4.22 is 1.1 MB, in a page whose four networks are 6 MB. Both take a graph as a whole,
// where here a gate moves and only what comes after it is run again; and both sum in float32, where this sums in float64 and misses PyTorch's logits by less than 1e-4.

const engine = (() => {
  const LANES = 4; // channels computed together
  const CHUNK = 32; // images that pass a layer together, so that their maps stay in the cache

  // --- Reading ------------------------------------------------------------------------------------------------------

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  }

  /** Return a network that runs, from its description: `halves` are kernels and the classifier in float16, `floats` are each channel's scale and shift and the classifier's bias. */
  function read({ name, residual, size, mean, deviation, stem, blocks, classes, halves, floats }) {
    const [half, float] = [new Uint16Array(bytes(halves).buffer), new Float32Array(bytes(floats).buffer)];
    let [nextHalf, nextFloat] = [0, 0];
    const takeHalves = (count) => Float32Array.from(half.subarray(nextHalf, (nextHalf += count)), fromHalf);
    const takeFloats = (count) => float.slice(nextFloat, (nextFloat += count));
    const layer = ([inputs, outputs, stride]) => folded(inputs, outputs, stride, takeHalves(outputs * inputs * 9), takeFloats(outputs), takeFloats(outputs));
    let side = size;
    const network = { name, residual, size, mean, deviation, classes, stem: layer(stem), blocks: [] };
    for (const [block, first, second] of blocks) {
      const made = { name: block, first: layer(first), second: layer(second), before: side, after: Math.ceil(side / first[2]) };
      network.blocks.push(made);
      side = made.after;
    }
    const channels = network.blocks.at(-1).second.outputs;
    network.classifier = { channels, weights: takeHalves(classes * channels), bias: takeFloats(classes) };
    return network;
  }

  /** Return a convolution with its normalisation in it, the kernel as [four channels][tap][input][channel of the four]. */
  function folded(inputs, outputs, stride, kernel, scale, shift) {
    const packed = new Float64Array(kernel.length); // in float64, so that nothing is converted in the innermost loop
    for (let to = 0; to < outputs; to++) {
      for (let from = 0; from < inputs; from++) {
        for (let tap = 0; tap < 9; tap++) {
          const place = ((Math.floor(to / LANES) * 9 + tap) * inputs + from) * LANES + (to % LANES);
          packed[place] = Math.fround(kernel[(to * inputs + from) * 9 + tap] * scale[to]);
        }
      }
    }
    return { inputs, outputs, stride, kernel: packed, shift };
  }

  // --- Layers -------------------------------------------------------------------------------------------------------

  /** Return the 3×3 convolution, padded by one, of `count` maps of this side, with negative values cut off if `rectified`. */
  function convolve(layer, maps, count, side, rectified) {
    const { inputs, outputs, stride } = layer;
    const after = Math.ceil(side / stride);
    const out = new Float32Array(count * after * after * outputs);
    const [taken, given] = [side * side * inputs, after * after * outputs];
    for (let start = 0; start < count; start += CHUNK) {
      const some = Math.min(CHUNK, count - start);
      pass(layer, maps.subarray(start * taken, (start + some) * taken), out.subarray(start * given, (start + some) * given), some, side, rectified);
    }
    return out;
  }

  function pass({ inputs, outputs, stride, kernel, shift }, from, out, count, side, rectified) {
    const after = Math.ceil(side / stride);
    const [taken, given] = [side * side * inputs, after * after * outputs];
    const least = rectified ? 0 : -Infinity;
    for (let channel = 0; channel < outputs; channel += LANES) {
      const [s0, s1, s2, s3] = shift.subarray(channel, channel + LANES);
      for (let y = 0; y < after; y++) {
        const top = y * stride - 1;
        const [firstRow, lastRow] = [Math.max(0, -top), Math.min(2, side - 1 - top)];
        for (let x = 0; x < after; x++) {
          const left = x * stride - 1;
          const [firstColumn, lastColumn] = [Math.max(0, -left), Math.min(2, side - 1 - left)];
          for (let image = 0; image < count; image += 2) {
            const other = Math.min(image + 1, count - 1); // of an odd number the last is computed twice
            let a0 = s0, a1 = s1, a2 = s2, a3 = s3, b0 = s0, b1 = s1, b2 = s2, b3 = s3;
            for (let row = firstRow; row <= lastRow; row++) {
              for (let column = firstColumn; column <= lastColumn; column++) {
                const pixel = ((top + row) * side + left + column) * inputs;
                let w = (channel / LANES * 9 + row * 3 + column) * inputs * LANES;
                let i = image * taken + pixel;
                const end = i + inputs;
                for (let j = other * taken + pixel; i < end; i++, j++, w += LANES) {
                  const u = from[i], v = from[j];
                  const k0 = kernel[w], k1 = kernel[w + 1], k2 = kernel[w + 2], k3 = kernel[w + 3];
                  a0 += k0 * u; a1 += k1 * u; a2 += k2 * u; a3 += k3 * u;
                  b0 += k0 * v; b1 += k1 * v; b2 += k2 * v; b3 += k3 * v;
                }
              }
            }
            const at = (y * after + x) * outputs + channel;
            const [a, b] = [image * given + at, other * given + at];
            out[a] = Math.max(a0, least); out[a + 1] = Math.max(a1, least); out[a + 2] = Math.max(a2, least); out[a + 3] = Math.max(a3, least);
            out[b] = Math.max(b0, least); out[b + 1] = Math.max(b1, least); out[b + 2] = Math.max(b2, least); out[b + 3] = Math.max(b3, least);
          }
        }
      }
    }
  }

  /** Return what a block's shortcut makes of its input: the input itself or, where shapes change, every other pixel and zero channels at the end (option A). */
  function shortcut(block, maps, count) {
    const { first: { inputs, stride }, second: { outputs }, before, after } = block;
    if (stride === 1 && inputs === outputs) return maps;
    const out = new Float32Array(count * after * after * outputs);
    for (let image = 0; image < count; image++) {
      for (let y = 0; y < after; y++) {
        for (let x = 0; x < after; x++) {
          const pixel = ((image * before + y * stride) * before + x * stride) * inputs;
          out.set(maps.subarray(pixel, pixel + inputs), ((image * after + y) * after + x) * outputs);
        }
      }
    }
    return out;
  }

  /** Return a block's input, shortcut, branch (and what is between its layers, if it is not off) and output. Residual: relu(shortcut + gate · branch). Plain, whose branch ends in a relu: shortcut + gate · (branch − shortcut). */
  function runBlock(network, block, input, count, gate) {
    const aside = shortcut(block, input, count);
    const inner = gate === 0 ? null : convolve(block.first, input, count, block.before, true);
    const branch = inner ? convolve(block.second, inner, count, block.after, !network.residual) : new Float32Array(aside.length);
    const output = new Float32Array(aside.length);
    if (network.residual) {
      for (let i = 0; i < output.length; i++) output[i] = Math.max(0, aside[i] + gate * branch[i]);
    } else {
      for (let i = 0; i < output.length; i++) output[i] = aside[i] + gate * (branch[i] - aside[i]);
    }
    return { input, shortcut: aside, inner, branch, output };
  }

  /** Return the stem's maps of images, whose pixels lie between 0 and 1. */
  function runStem(network, pixels) {
    const standardised = Float32Array.from(pixels, (value) => (value - network.mean) / network.deviation);
    return convolve(network.stem, standardised, pixels.length / network.size ** 2, network.size, true);
  }

  /** Return the logits `[image][class]` of the last block's maps: their means over all places, through the classifier. */
  function classify({ classes, classifier: { channels, weights, bias }, blocks }, maps, count) {
    const places = blocks.at(-1).after ** 2;
    const logits = new Float32Array(count * classes);
    for (let image = 0; image < count; image++) {
      for (let label = 0; label < classes; label++) {
        let sum = 0;
        for (let place = 0; place < places; place++) {
          for (let channel = 0; channel < channels; channel++) sum += weights[label * channels + channel] * maps[(image * places + place) * channels + channel];
        }
        logits[image * classes + label] = bias[label] + sum / places;
      }
    }
    return logits;
  }

  // --- Networks -----------------------------------------------------------------------------------------------------

  /** Return the logits of images, and the stem's maps and each place's block as it ran. A setting is a gate per block, and the order in which the blocks stand. */
  function run(network, pixels, { gates, order }) {
    const count = pixels.length / network.size ** 2;
    const stem = runStem(network, pixels);
    const ran = [];
    let maps = stem;
    for (const number of order) {
      ran.push(runBlock(network, network.blocks[number], maps, count, gates[number]));
      maps = ran.at(-1).output;
    }
    return { stem, ran, logits: classify(network, maps, count) };
  }

  /** Return the parts of one image's logits, exactly, of a residual network as it ran: the stem's, each place's and the bias's, [part][class].
   *
   * With the masks of the relus as they are for the image, the way from each branch along the shortcuts to the logits is linear: `reslab analyze split`. */
  function split(network, { gates, order }, { stem, ran }) {
    const { classes, classifier: { channels, weights, bias } } = network;
    const parts = [Array.from(bias)];
    const places = network.blocks.at(-1).after ** 2;
    let gradients = Array.from({ length: classes }, (_, label) =>
      Float64Array.from({ length: places * channels }, (_, i) => weights[label * channels + (i % channels)] / places));
    for (let place = order.length - 1; place >= 0; place--) {
      const { branch, output } = ran[place];
      for (const gradient of gradients) output.forEach((value, i) => value > 0 || (gradient[i] = 0));
      parts.unshift(gradients.map((gradient) => gates[order[place]] * dot(gradient, branch)));
      gradients = gradients.map((gradient) => back(network.blocks[order[place]], gradient));
    }
    parts.unshift(gradients.map((gradient) => dot(gradient, stem)));
    return parts;
  }

  /** Return the gradient with respect to a block's input, along its shortcut alone. */
  function back({ first: { inputs, stride }, second: { outputs }, before, after }, gradient) {
    if (stride === 1 && inputs === outputs) return gradient;
    const out = new Float64Array(before * before * inputs);
    for (let place = 0; place < after * after; place++) {
      const pixel = (Math.floor(place / after) * before + (place % after)) * stride;
      out.set(gradient.subarray(place * outputs, place * outputs + inputs), pixel * inputs);
    }
    return out;
  }

  function dot(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
    return sum;
  }

  const largest = (values) => values.indexOf(Math.max(...values));

  return { LANES, bytes, read, runStem, runBlock, classify, run, back, split, largest };
})();
