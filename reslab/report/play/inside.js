"use strict";
// Inside a block: its maps, what it gives to the logits, and how much the network needs it.

const inside = (() => {
  const { element } = blocks;
  const ROWS = 2; // of maps in a picture
  const FULL = 0.99; // of all values are drawn as they are; the few beyond have the fullest colour
  const byId = (id) => document.getElementById(id);
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

  /** Show the four maps of a block as it ran. */
  function maps(network, block, gate, { input, shortcut, branch, output }) {
    const { name, first, second, before, after } = block;
    const sum = network.residual ? words.say("sumResidual", gate.toFixed(2)) : words.say("sumPlain", gate.toFixed(2), (1 - gate).toFixed(2));
    const rows = [
      [words.say("input"), input, before, first.inputs],
      [words.say("shortcut"), shortcut, after, second.outputs],
      [words.say("branch"), branch, after, second.outputs],
      [sum, output, after, second.outputs],
    ];
    const reach = high(rows.slice(1).map(([, values]) => values));
    const drawn = rows.map(([title, values, side, channels], at) => {
      const canvas = element("canvas", {});
      const [least, most] = [Math.min(...values), Math.max(...values)];
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", words.say("mapsOf", title, channels, side, least.toFixed(2), most.toFixed(2)));
      pictures.maps(canvas, values, { side, channels, reach, across: channels / ROWS });
      const off = at === 2 && gate === 0;
      return element("figure", {}, element("figcaption", { textContent: off ? `${title}: ${words.say("branchOff")}` : title }), canvas);
    });
    const ratio = gate === 0 ? "" : ` ${words.say("ratio", (size(branch) / size(shortcut)).toFixed(2))}`;
    const note = element("p", { className: "small", textContent: words.say("mapsScale", reach.toFixed(2)) + ratio });
    byId("maps").replaceChildren(element("h3", { textContent: words.say("insideOf", network.name, name) }), note, element("div", { className: "four" }, ...drawn));
  }

  /** Return the value that few are beyond, of either sign. */
  function high(maps) {
    const all = maps.flatMap((values) => Array.from(values, Math.abs)).sort((one, other) => one - other);
    return all[Math.floor(FULL * (all.length - 1))] || 1;
  }

  const size = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

  /** Show what each part gives to the answer over the runner-up, and what the block gives to every logit. Without parts, as of a plain network, say why. */
  function shares(network, order, block, parts, logits) {
    byId("logits").classList.toggle("none", !parts);
    if (!parts) {
      byId("shares-help").textContent = words.say("sharesPlain");
      return;
    }
    const [answer, second] = Array.from(logits.keys()).sort((one, other) => logits[other] - logits[one]);
    const names = [words.say("stem"), ...order.map((number) => network.blocks[number].name.replace("layer", "")), words.say("bias")];
    const chosen = block.name.replace("layer", "");
    const columns = parts.map((part, at) => {
      const value = part[answer] - part[second];
      return { label: names[at], value, text: signed(value), marked: names[at] === chosen };
    });
    byId("shares-title").textContent = words.say("shares", answer, second);
    pictures.columns(byId("shares"), columns, byId("shares-title").textContent);
    byId("shares-help").textContent = words.say("sharesHelp", signed(logits[answer] - logits[second]));
    byId("class-title").textContent = words.say("classShares", block.name);
    const part = parts[names.indexOf(chosen)];
    byId("of-block").hidden = part.every((value) => value === 0); // the block is off
    const classes = part.map((value, label) => ({ label: String(label), value, text: signed(value), marked: label === answer }));
    pictures.columns(byId("class-shares"), classes, byId("class-title").textContent);
  }

  /** Show the importance of the blocks that were counted so far. */
  function importance(network, block, rises) {
    const all = network.blocks.length;
    byId("ranking").textContent = rises.size < all ? words.say("importanceCounting", rises.size, all) : "";
    const items = network.blocks.map(({ name }) => {
      const rise = rises.get(name);
      return { label: name.replace("layer", ""), value: rise, text: rise === undefined ? "…" : words.say("points", signed(100 * rise)), marked: name === block.name };
    });
    pictures.columns(byId("rises"), items, words.say("importance"));
  }

  /** Show the gradient's norm by path length, beside the paths through the blocks that are `on`; without one, as of a plain network, say why. */
  function spectrum({ spectrum: norms, on }) {
    byId("spectrum-help").textContent = words.say(norms ? "spectrumHelp" : "spectrumPlain");
    byId("spectrum").hidden = byId("spectrum-mean").hidden = !norms;
    if (!norms) return;
    const whole = norms.reduce((sum, norm) => sum + norm, 0) || 1;
    const columns = norms.map((norm, length) => ({ label: String(length), value: (100 * norm) / whole, text: `${((100 * norm) / whole).toFixed(1)} %`, point: 100 * choose(on, length) / 2 ** on }));
    const mean = norms.reduce((sum, norm, length) => sum + (length * norm) / whole, 0);
    pictures.columns(byId("spectrum"), columns, words.say("spectrum"));
    byId("spectrum-mean").textContent = words.say("spectrumMean", mean.toFixed(1), (on / 2).toFixed(1));
  }

  const choose = (n, k) => Array.from({ length: k }, (_, at) => (n - at) / (at + 1)).reduce((product, factor) => product * factor, 1);

  /** Show how large the gradient is at every block on its way back, of both networks. */
  function flow(names, series) {
    pictures.flow(byId("flow"), [words.say("stem"), ...names].map((name) => name.replace("layer", "")), series, { across: words.say("flowAcross"), up: words.say("flowUp"), spoken: words.say("flow") });
  }

  return { maps, shares, importance, spectrum, flow };
})();
