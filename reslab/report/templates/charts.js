"use strict";
// The pictures: every `figure.picture` carries its record as JSON; it is drawn when the reader comes near, in the page's language and colours. What draws it is plotly,
// which is unpacked when it is first needed, or when nothing else is to be done.

const charts = (() => {
  const PALETTE = {{ palette | length }}; // colours
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const SYMBOLS = {
    circle: "M12 3a4 4 0 1 1-.01 0Z", square: "M8 3h8v8h-8Z", diamond: "M12 2l5 5-5 5-5-5Z", "triangle-up": "M12 2l5 9h-10Z",
    x: "M9 2l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3Z", cross: "M10.5 2h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5Z",
    star: "M12 1l1.6 4h4.4l-3.5 2.7 1.3 4.3-3.8-2.6-3.8 2.6 1.3-4.3-3.5-2.7h4.4Z", pentagon: "M12 2l5 3.8-2 5.7h-6l-2-5.7Z",
  }; // with their outlines in a legend of 24 by 14
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const FONT = getComputedStyle(document.body).fontFamily;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const words = (text) => (typeof text === "string" ? text : text[language.current()]);
  const plain = (text) => String(text).replaceAll("<", "‹").replaceAll(">", "›"); // plotly reads some HTML in its texts
  const place = (at) => (typeof at === "string" ? plain(at) : at);

  /** Return a record whose names of places, which are somebody's classes and groups, are no HTML. */
  const inert = (record) => ({
    ...record,
    series: record.series.map((series) => ({ ...series, x: series.x.map(place), y: series.y.map(place) })),
    bands: record.bands.map((band) => ({ ...band, first: place(band.first), last: place(band.last) })),
    marks: record.marks.map(place),
  });
  const colour = (record, index) => css(`--series-${record.colours[index]}`);
  const faint = (hex) => `${hex}2e`;

  const isGrid = (record) => record.kind === "heatmap" || record.kind === "contours";
  const kindOf = (record, series) => series.kind ?? record.kind;
  const symbol = (index) => Object.keys(SYMBOLS)[(index + Math.floor(index / PALETTE)) % 8]; // where colours come again, the marks are others
  const narrow = matchMedia("(max-width: 44rem)");
  const axisOf = (letter, panel) => (panel ? `${letter}${panel + 1}` : letter);

  /** Return a series as plotly's traces in a panel; the spread of a line is a band, of anything else whiskers. */
  function traces(record, series, index, panel) {
    const common = { x: series.x, y: series.y, name: plain(words(series.name)), showlegend: false, xaxis: axisOf("x", panel), yaxis: axisOf("y", panel) };
    if (isGrid(record)) return [grid(record, { ...common, z: series.z ?? [] })];
    common.hovertext = series.text?.map(plain) ?? undefined;
    const kind = kindOf(record, series);
    if (kind === "bars") return [{ ...common, type: "bar", marker: { color: colour(record, index) }, error_y: whiskers(series) }];
    const marker = { symbol: symbol(index), size: series.x.length > 60 ? 4 : 7 };
    const line = { color: colour(record, index), dash: DASHES[index % DASHES.length], width: 2 };
    const drawn = { ...common, type: "scatter", mode: kind === "lines" ? "lines+markers" : "markers", line, marker: { ...marker, color: colour(record, index) } };
    const numeric = series.x.every((x) => typeof x === "number");
    if (kind !== "lines" || !series.spread || !numeric) return [{ ...drawn, error_y: whiskers(series) }];
    const least = words(record.y).includes("%") ? 0 : -Infinity; // no share is below it
    const edge = (sign) => series.y.map((y, at) => (y === null ? null : Math.max(least, y + sign * (series.spread[at] ?? 0))));
    const band = {
      ...common, x: [...series.x, ...[...series.x].reverse()], y: [...edge(1), ...edge(-1).reverse()], hovertext: undefined, type: "scatter", mode: "lines",
      fill: "toself", fillcolor: faint(colour(record, index)), line: { width: 0 }, hoverinfo: "skip",
    };
    return [band, drawn];
  }

  const whiskers = (series) => (series.spread ? { type: "data", array: series.spread, thickness: 1.2, color: css("--ink") } : undefined);

  function grid(record, common) {
    if (record.kind === "heatmap") return { ...common, type: "heatmap", coloraxis: "coloraxis" };
    const [start, end, size] = heights(record);
    const contours = { start, end, size };
    return { ...common, type: "contour", coloraxis: "coloraxis", autocontour: false, contours, line: { width: 0.5, color: "#00000066" } };
  }

  /** Return the least and the greatest value of all series, and a round step of at most a twentieth of the way; for contours both are multiples of it. */
  function heights(record) {
    const values = record.series.flatMap((series) => (series.z ?? []).flat()).filter((z) => z !== null);
    const [least, greatest] = [Math.min(...values), Math.max(...values)];
    const exact = (greatest - least) / 20 || 1;
    const power = 10 ** Math.floor(Math.log10(exact));
    const step = power * [5, 2, 1].find((factor) => factor * power <= exact);
    return record.kind === "contours" ? [Math.floor(least / step) * step, Math.ceil(greatest / step) * step, step] : [least, greatest, step];
  }

  const values = (record, letter) => [...new Set(record.series.flatMap((series) => series[letter]))];
  const panelsOf = (record) => (record.arrangement === "panels" ? record.series : [null]);
  const sideBySide = (record) => isGrid(record) && !narrow.matches; // its panels; otherwise they are one under another
  const isTurned = (record) => values(record, "x").length > 14 && values(record, "x").every((x) => typeof x === "string"); // its names, to have room

  /** Return how high a picture is, which depends on nothing that is known only once it is drawn: so its place is as high before. */
  function height(record) {
    const rows = panelsOf(record).length;
    const panels = rows <= 1 ? 400 : sideBySide(record) ? 420 : 90 + rows * (isGrid(record) ? 230 : 135);
    return panels + (isTurned(record) ? 60 : 0);
  }

  const named = (values) => values.length > 0 && values.every((value) => typeof value === "string"); // also where the names are digits
  const kindOfAxis = (logarithmic, values) => (logarithmic ? "log" : named(values) ? "category" : undefined);

  function layout(record, panels) {
    const side = sideBySide(record);
    const axis = (title, logarithmic, from, values) => ({
      title: { text: plain(words(title)), standoff: 8 }, type: kindOfAxis(logarithmic, values), rangemode: from, automargin: true,
      exponentformat: logarithmic || Math.max(...values.filter(Number.isFinite)) < 0.01 ? "power" : "B", // 1.2M, but 5×10⁻⁴ and not 500μ
      gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), tickcolor: css("--line"),
    });
    const found = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: FONT, color: css("--quiet"), size: 13 },
      margin: { l: 56, r: 12, t: 12, b: 48 }, height: height(record), barmode: "group", hovermode: "closest", shapes: [], annotations: [],
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--ink") },
    };
    const places = values(record, "x");
    const measured = record.log_x && places.length <= 10; // so few that every one has its tick
    const ticks = measured ? { tickvals: places, ticktext: places.map(String) } : isTurned(record) ? { tickangle: -90 } : {};
    panels.forEach((series, panel) => {
      const last = side || panel === panels.length - 1;
      const y = axis(record.y, record.log_y, record.log_y || isGrid(record) ? "normal" : "tozero", values(record, "y"));
      found[`xaxis${panel ? panel + 1 : ""}`] = { ...axis(last ? record.x : "", record.log_x, "normal", places), ...ticks, matches: panel ? "x" : undefined, showticklabels: last, anchor: axisOf("y", panel) };
      found[`yaxis${panel ? panel + 1 : ""}`] = { ...y, matches: panel ? "y" : undefined, anchor: axisOf("x", panel) };
      mark(found, record, panel);
    });
    if (record.bands.length) found.margin.t += 18;
    if (isGrid(record)) {
      found.margin.t = 32; // room for the buttons, which would cover the colours
      const [cmin, cmax] = heights(record);
      const colorbar = { title: { text: plain(words(record.z ?? "")), side: "right" }, thickness: 12, outlinewidth: 0 };
      found.coloraxis = { colorscale: "Cividis", cmin, cmax, colorbar };
    }
    if (panels.length > 1) arrange(found, record, panels, side);
    return found;
  }

  /** Add the visible parts of bands and marks to a panel. */
  function mark(found, record, panel) {
    const names = [...new Set(record.series.flatMap((series) => series.x))];
    const at = (x) => (typeof x === "number" ? x : names.indexOf(x));
    const drawn = (...places) => places.every((x) => at(x) !== -1 || typeof x === "number"); // and not of names that the picture lacks
    const reach = (x) => (typeof x === "number" ? 0 : 0.46); // a name is as wide as its bars
    const [xref, yref] = [axisOf("x", panel), `${axisOf("y", panel)} domain`];
    for (const band of record.bands.filter(({ first, last }) => drawn(first, last))) {
      const [x0, x1] = [at(band.first) - reach(band.first), at(band.last) + reach(band.last)];
      found.shapes.push({ type: "rect", xref, yref, x0, x1, y0: 0, y1: 1, layer: "below", line: { width: 0 }, fillcolor: "#8a93a02e" });
      if (panel === 0) found.annotations.push({ xref, yref, x: (x0 + x1) / 2, y: 1, yanchor: "bottom", showarrow: false, text: plain(words(band.name)) });
    }
    for (const x of record.marks.filter((each) => drawn(each))) {
      found.shapes.push({ type: "line", xref, yref, x0: at(x), x1: at(x), y0: 0, y1: 1, layer: "below", line: { color: css("--ink"), width: 1.5, dash: "dot" } });
      found.annotations.push({ xref, yref, x: at(x), y: 1, yanchor: "top", yshift: 4, showarrow: false, text: "▼", font: { color: css("--ink"), size: 12 } });
    }
  }

  /** Give every panel its place and its name. */
  function arrange(found, record, panels, side) {
    const [rows, columns] = side ? [1, panels.length] : [panels.length, 1];
    found.grid = { rows, columns, pattern: "independent", xgap: 0.06, ygap: isGrid(record) ? 0.2 : 0.28 };
    found.margin.t += isGrid(record) ? 6 : 22;
    panels.forEach((series, panel) => {
      const above = panel === 0 && record.bands.length ? 18 : 2;
      const place = { xref: `${axisOf("x", panel)} domain`, yref: `${axisOf("y", panel)} domain`, x: 0, y: 1, xanchor: "left", yanchor: "bottom", yshift: above };
      found.annotations.push({ ...place, showarrow: false, text: `<b>${plain(words(series.name))}</b>`, font: { color: css("--ink") } });
      const y = found[`yaxis${panel ? panel + 1 : ""}`];
      if (!side || panel > 0) y.title.text = "";
      if (side && panel > 0) y.showticklabels = false;
    });
    if (side) return;
    // One name for the axes of all panels, in the middle of them.
    found.annotations.push({ xref: "paper", yref: "paper", x: 0, y: 0.5, xanchor: "right", xshift: -40, textangle: -90, showarrow: false, text: plain(words(record.y)) });
  }

  /** Make a figure's controls, and its place as high as the picture will be, so that nothing moves when it comes; return what draws it. */
  function prepare(figure) {
    const plot = figure.querySelector(".plot"), legend = figure.querySelector(".legend");
    const record = inert(JSON.parse(figure.querySelector("script").textContent));
    const together = !["panels", "slider"].includes(record.arrangement);
    const shown = record.series.map(() => true);
    let chosen = 0, drawn = false;
    const draw = () => {
      drawn = true;
      const panels = panelsOf(record);
      const data = record.series.flatMap((series, index) => {
        const visible = record.arrangement === "slider" ? index === chosen : shown[index];
        return traces(record, series, index, panels[0] ? index : 0).map((trace) => ({ ...trace, visible }));
      });
      Plotly.react(plot, data, layout(record, panels), CONFIG);
    };
    const several = record.series.length > 1;
    const controls = several && together ? buttons(record, shown, draw) : several && record.arrangement === "slider" ? tabs(record, (index) => ((chosen = index), draw())) : null;
    legend.append(...(controls?.elements ?? []));
    const again = () => {
      controls?.name();
      plot.style.height = `${height(record)}px`;
      if (drawn) draw();
    };
    again();
    language.onChange(again);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    narrow.addEventListener("change", again);
    return draw;
  }

  /** Return a button for every series, which shows or hides it, and what names them in the page's language. */
  function buttons(record, shown, draw) {
    const elements = record.series.map((series, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.innerHTML = sample(record, kindOf(record, series), index);
      button.append(document.createElement("span"));
      button.addEventListener("click", () => {
        shown[index] = !shown[index];
        button.setAttribute("aria-pressed", String(shown[index]));
        draw();
      });
      return button;
    });
    return { elements, name: () => elements.forEach((button, index) => (button.lastChild.textContent = words(record.series[index].name))) };
  }

  let groups = 0;

  /** Return a tab for every series, of which one is shown, and what names them. */
  function tabs(record, choose) {
    groups += 1;
    const elements = record.series.map((series, index) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: `tabs-${groups}`, checked: index === 0 });
      input.addEventListener("change", () => choose(index));
      label.append(input, document.createElement("span"));
      return label;
    });
    return { elements, name: () => elements.forEach((label, index) => (label.lastChild.textContent = words(record.series[index].name))) };
  }

  /** Return a legend's sample of a series: a bar, a point, or a line with its dashes. */
  function sample(record, kind, index) {
    const stroke = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2", longdash: "9 3", longdashdot: "9 2 2 2" }[DASHES[index % DASHES.length]];
    const drawn = kind === "bars"
      ? `<rect x="4" y="2" width="16" height="10" fill="${colour(record, index)}"/>`
      : kind === "points"
        ? `<path d="${SYMBOLS[symbol(index)]}" fill="${colour(record, index)}"/>`
        : `<path d="M0 7H24" stroke="${colour(record, index)}" stroke-width="2.5" stroke-dasharray="${stroke}"/>`;
    return `<svg width="24" height="14" aria-hidden="true">${drawn}</svg>`;
  }

  let library = null;
  const plotly = () => (library ??= packed.text("plotly").then(packed.run));

  const waiting = new Map([...document.querySelectorAll("figure.picture")].map((figure) => [figure, prepare(figure)]));
  const once = (figure) => {
    const draw = waiting.get(figure);
    waiting.delete(figure);
    draw?.();
  };
  const near = new IntersectionObserver((entries) => {
    const come = entries.filter((entry) => entry.isIntersecting);
    if (come.length) plotly().then(() => come.forEach((entry) => once(entry.target)));
  }, { rootMargin: "600px" });
  for (const figure of waiting.keys()) near.observe(figure);
  /** Draw every picture, in any view. */
  const all = () => plotly().then(() => [...waiting.keys()].forEach(once));
  addEventListener("beforeprint", () => window.Plotly && [...waiting.keys()].forEach(once)); // printing waits for nothing
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
  addEventListener("load", () => waiting.size && idle(plotly));
  return { all };
})();
