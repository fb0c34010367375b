"use strict";
// The way back: gradients of one image's loss through the network as it ran, and their split by path length, exactly. In float64.

const gradients = (() => {
  /** Return the gradient at a convolution's input, of one at its output. */
  function convolveBack({ inputs, outputs, stride, kernel }, gradient, side) {
    const { LANES } = engine;
    const after = Math.ceil(side / stride);
    const out = new Float64Array(side * side * inputs);
    for (let place = 0; place < after * after; place++) {
      const [top, left] = [Math.floor(place / after) * stride - 1, (place % after) * stride - 1];
      for (let channel = 0; channel < outputs; channel++) {
        const given = gradient[place * outputs + channel];
        if (given === 0) continue; // as where a relu was off
        for (let tap = 0; tap < 9; tap++) {
          const [y, x] = [top + Math.floor(tap / 3), left + (tap % 3)];
          if (y < 0 || y >= side || x < 0 || x >= side) continue;
          const pixel = (y * side + x) * inputs;
          let w = (Math.floor(channel / LANES) * 9 + tap) * inputs * LANES + (channel % LANES);
          for (let input = 0; input < inputs; input++, w += LANES) out[pixel + input] += given * kernel[w];
        }
      }
    }
    return out;
  }

  /** Return a gradient with zeros where a relu's output is zero. */
  const masked = (gradient, output) => gradient.map((value, i) => (output[i] > 0 ? value : 0));
  const times = (gradient, factor) => gradient.map((value) => value * factor);
  const plus = (one, other) => one.map((value, i) => value + other[i]);
  const norm = (gradient) => Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));

  /** Return the gradient at a block's input of one at its sum, along its shortcut. */
  const alongShortcut = (network, block, gate, gradient) => engine.back(block, network.residual ? gradient : times(gradient, 1 - gate));

  /** Return the same through its branch; null, if that is off. */
  function throughBranch(network, { first, second, before, after }, gate, { inner, branch }, gradient) {
    if (!inner) return null;
    const scaled = times(gradient, gate);
    const atInner = convolveBack(second, network.residual ? scaled : masked(scaled, branch), after);
    return convolveBack(first, masked(atInner, inner), before);
  }

  /** Return the gradient of the cross-entropy at the last sum, given the label. */
  function atTheEnd(network, { ran, logits }, label) {
    const { classes, classifier: { channels, weights } } = network;
    const powers = Array.from(logits, (logit) => Math.exp(logit - Math.max(...logits)));
    const whole = powers.reduce((sum, power) => sum + power, 0);
    // 1 − p of the label as the sum of the others, which is exact where p is nearly 1
    const others = powers.reduce((sum, power, at) => (at === label ? sum : sum + power), 0);
    const atLogits = powers.map((power, at) => (at === label ? -others : power) / whole);
    const { output } = ran.at(-1);
    const places = output.length / channels;
    const gradient = Float64Array.from(output, (_, i) => {
      let sum = 0;
      for (let at = 0; at < classes; at++) sum += atLogits[at] * weights[at * channels + (i % channels)];
      return sum / places;
    });
    return atSum(network, gradient, output);
  }

  /** Return the gradient at a block's sum, of one at its output: a residual block has a relu between them. */
  const atSum = (network, gradient, output) => (network.residual ? masked(gradient, output) : gradient);

  /** Return the parts of the gradient by path length, `[length][place]`, at the stem's output; one network's all in one, `[1][place]`, unless `apart`; `told` each norm of all on the way. */
  function back(network, { gates, order }, run, label, apart, told = () => {}) {
    let parts = [atTheEnd(network, run, label)];
    told(norm(parts[0]));
    for (let place = order.length - 1; place >= 0; place--) {
      const number = order[place];
      const [block, gate, ran] = [network.blocks[number], gates[number], run.ran[place]];
      const kept = parts.map((part) => alongShortcut(network, block, gate, part));
      const longer = parts.map((part) => throughBranch(network, block, gate, ran, part) ?? new Float64Array(kept[0].length));
      parts = apart
        ? [kept[0], ...kept.slice(1).map((part, length) => plus(part, longer[length])), longer.at(-1)]
        : [plus(kept[0], longer[0])];
      if (place > 0) parts = parts.map((part) => atSum(network, part, run.ran[place - 1].output));
      if (!apart) told(norm(parts[0]));
    }
    return parts;
  }

  /** Return the gradient's norm at the stem's output and at each block's sum: `reslab analyze gradient-flow`. */
  function flow(network, setting, run, label) {
    const norms = [];
    back(network, setting, run, label, false, (value) => norms.unshift(value));
    return norms;
  }

  /** Return the norm of the gradient by path length, of a residual network: `reslab analyze paths`. */
  const spectrum = (network, setting, run, label) => back(network, setting, run, label, true).map(norm);

  return { back, flow, spectrum };
})();
