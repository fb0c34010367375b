"use strict";
// Small pictures: grey images, maps in two colours, columns, and the lesion curve.

const pictures = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (name) => css(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));

  /** Draw maps `[row][column][channel]` side by side, `across` in a row; zero is the paper's colour, `reach` the full one, of positive or negative values. */
  function maps(canvas, values, { side, channels = 1, reach = 1, across = 1, colours = ["--high", "--low"] }) {
    const gap = 1;
    const pitch = side + gap;
    const columns = Math.min(across, channels);
    canvas.width = columns * pitch - gap;
    canvas.height = Math.ceil(channels / columns) * pitch - gap;
    const [paper, high, low] = ["--map", ...colours].map(rgb);
    const picture = new ImageData(canvas.width, canvas.height);
    for (let channel = 0; channel < channels; channel++) {
      for (let place = 0; place < side * side; place++) {
        const value = values[place * channels + channel] / (reach || 1);
        const end = value < 0 ? low : high;
        const share = Math.min(1, Math.abs(value));
        const x = (channel % columns) * pitch + (place % side);
        const y = Math.floor(channel / columns) * pitch + Math.floor(place / side);
        picture.data.set([...paper.map((from, i) => from + (end[i] - from) * share), 255], 4 * (y * canvas.width + x));
      }
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  /** Draw a grey image. */
  const image = (canvas, values, side) => maps(canvas, values, { side, colours: ["--ink", "--low"] });

  /** Draw a small picture as large as the canvas. */
  function enlarge(canvas, small) {
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  /** Return an element with attributes, and children or a text. */
  function svg(name, attributes, ...children) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  /** Draw a column per value; the marked one stands out. A column is {label, value, text, marked}, and may have a `point` to compare with. */
  function columns(figure, items, name) {
    const [width, height, foot] = [Math.max(20 * items.length, 200), 120, 42];
    const values = items.flatMap(({ value, point }) => [value ?? 0, point ?? 0]);
    const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
    const y = (value) => 8 + (height - 8) * (1 - (value - least) / (most - least || 1));
    const pitch = width / items.length;
    const drawn = items.flatMap(({ label, value, text, marked, point }, at) => {
      const middle = (at + 0.5) * pitch;
      const title = svg("title", {}, `${label}: ${text}`);
      const kind = marked ? "column marked" : "column";
      const bar = svg("rect", { class: kind, x: middle - pitch * 0.36, width: pitch * 0.72, y: Math.min(y(0), y(value ?? 0)), height: Math.max(Math.abs(y(value ?? 0) - y(0)), 0.5) }, title);
      const at45 = `translate(${middle + 3} ${height + 8}) rotate(-90)`;
      const beside = point === undefined ? [] : [svg("circle", { class: "beside", cx: middle, cy: y(point), r: 2.5 })];
      return [bar, ...beside, svg("text", { transform: at45, "text-anchor": "end", class: marked ? "marked" : "" }, label)];
    });
    const zero = svg("line", { class: "zero", x1: 0, x2: width, y1: y(0), y2: y(0) });
    const spoken = `${name}: ${items.map(({ label, text }) => `${label} ${text}`).join(", ")}`;
    figure.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": spoken, style: `min-width: ${0.9 * width}px; max-width: ${1.5 * width}px` }, ...drawn, zero));
  }

  /** Draw the lesion curve: each point {off, error, name, now} is a setting whose error was counted; `series` are the networks' classes of colour, by name. */
  function curve(figure, points, blocks, series, { across, up, spoken }) {
    const [width, height, left, foot] = [360, 220, 56, 36];
    const x = (off) => left + ((width - left - 10) * off) / blocks;
    const y = (error) => 10 + (height - foot - 10) * (1 - error);
    const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((error) => [
      svg("line", { class: "grid", x1: left, x2: width - 10, y1: y(error), y2: y(error) }),
      svg("text", { x: left - 5, y: y(error) + 4, "text-anchor": "end" }, `${100 * error} %`),
    ]);
    const step = blocks > 12 ? 3 : 1;
    const steps = Array.from({ length: Math.floor(blocks / step) + 1 }, (_, at) => at * step);
    const below = steps.map((off) => svg("text", { x: x(off), y: height - foot + 16, "text-anchor": "middle" }, off));
    const middles = Object.entries(series).map(([name, kind]) => svg("polyline", { class: `mean ${kind}`, points: means(points, name).map(([off, error]) => `${x(off)},${y(error)}`).join(" ") }));
    const marks = points.map(({ off, error, name, now }) => mark(series[name], x(off), y(error), now, `${name}: ${off}, ${(100 * error).toFixed(1)} %`));
    const words = [
      svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, across),
      svg("text", { transform: `translate(11 ${(height - foot) / 2}) rotate(-90)`, "text-anchor": "middle" }, up),
    ];
    figure.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken }, ...ticks, ...below, ...middles, ...marks, ...words));
  }

  /** Return a residual network's point as a disc, a plain one's as a diamond; larger, if it is what the gates are now. */
  function mark(kind, x, y, now, text) {
    const size = now ? 6.5 : 3.5;
    const shape = kind === "residual" ? { d: `M${x - size},${y}a${size},${size} 0 1 0 ${2 * size},0a${size},${size} 0 1 0 ${-2 * size},0` } : { d: `M${x},${y - size * 1.2}l${size * 1.2},${size * 1.2}l${-size * 1.2},${size * 1.2}l${-size * 1.2},${-size * 1.2}Z` };
    return svg("path", { ...shape, class: `point ${kind}${now ? " now" : ""}` }, svg("title", {}, text));
  }

  /** Return a network's mean error for each number of blocks off. */
  function means(points, name) {
    const by = new Map();
    for (const { off, error, name: whose } of points) if (whose === name) by.set(off, [...(by.get(off) ?? []), error]);
    return [...by].sort(([one], [other]) => one - other).map(([off, errors]) => [off, errors.reduce((sum, error) => sum + error, 0) / errors.length]);
  }

  /** Draw the gradient's size at each place, on a logarithmic axis; a series is {name, kind, norms}. What vanished altogether is at the bottom. */
  function flow(figure, places, series, { across, up, spoken }) {
    const [width, height, left, foot] = [Math.max(360, 56 + 15 * places.length), 220, 56, 60];
    const powers = series.flatMap(({ norms }) => norms).filter((norm) => norm > 0).map(Math.log10);
    const [least, most] = [Math.floor(Math.min(0, ...powers)), Math.ceil(Math.max(...powers, -1))];
    const [lowest, step] = [Math.max(least, most - 24), Math.ceil((most - Math.max(least, most - 24)) / 6) || 1];
    const x = (at) => left + ((width - left - 12) * at) / (places.length - 1);
    const y = (norm) => 12 + (height - foot - 12) * (1 - Math.max(0, Math.log10(norm || Number.MIN_VALUE) - lowest) / (most - lowest || 1));
    const ticks = [];
    for (let power = most; power >= lowest; power -= step) {
      ticks.push(svg("line", { class: "grid", x1: left, x2: width - 12, y1: y(10 ** power), y2: y(10 ** power) }));
      const label = svg("text", { x: left - 5, y: y(10 ** power) + 4, "text-anchor": "end" }, "10");
      label.append(svg("tspan", { dy: -4, "font-size": 8 }, String(power).replace("-", "−")));
      ticks.push(label);
    }
    const below = places.map((place, at) => svg("text", { transform: `translate(${x(at) + 3} ${height - foot + 8}) rotate(-90)`, "text-anchor": "end" }, place));
    const lines = series.flatMap(({ name, kind, norms }) => [
      svg("polyline", { class: `mean strong ${kind}`, points: norms.map((norm, at) => `${x(at)},${y(norm)}`).join(" ") }),
      ...norms.map((norm, at) => mark(kind, x(at), y(norm), false, `${name}, ${places[at]}: ${norm.toExponential(1)}`)),
    ]);
    const texts = [
      svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, across),
      svg("text", { transform: `translate(11 ${(height - foot) / 2 + 6}) rotate(-90)`, "text-anchor": "middle" }, up),
    ];
    const said = series.map(({ name, norms }) => `${name} ${norms[0].toExponential(1)} … ${norms.at(-1).toExponential(1)}`).join("; ");
    figure.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${spoken}: ${said}`, style: `min-width: ${0.85 * width}px` }, ...ticks, ...below, ...lines, ...texts));
  }

  return { maps, image, enlarge, columns, curve, flow, css };
})();
