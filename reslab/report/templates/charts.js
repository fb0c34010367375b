"use strict";
// The pictures: every `figure.picture` carries its record as JSON; it is drawn when the reader comes near, in the page's language and colours.

const charts = (() => {
  const COLOURS = {{ palette | json }};
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star", "pentagon"];
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const FONT = getComputedStyle(document.body).fontFamily;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const words = (text) => (typeof text === "string" ? text : text[language.current()]);
  const plain = (text) => String(text).replaceAll("<", "‹").replaceAll(">", "›"); // plotly reads some HTML in its texts
  const colour = (index) => (index % COLOURS.length === 6 ? css("--ink") : COLOURS[index % COLOURS.length]);
  const faint = (hex) => `${hex.length === 7 ? hex : "#888888"}2e`;

  /** Return a series as plotly's traces; the spread of a line is a band, of anything else whiskers. */
  function traces(record, series, index, shown) {
    const name = plain(words(series.name));
    const common = { x: series.x, y: series.y, name, showlegend: false, visible: shown, hovertext: series.text?.map(plain) ?? undefined };
    if (record.kind === "bars") return [{ ...common, type: "bar", marker: { color: colour(index) }, error_y: whiskers(series) }];
    const marker = { symbol: SYMBOLS[index % SYMBOLS.length], size: series.x.length > 60 ? 4 : 7 };
    const line = { color: colour(index), dash: DASHES[index % DASHES.length], width: 2 };
    const drawn = { ...common, type: "scatter", mode: record.kind === "lines" ? "lines+markers" : "markers", line, marker: { ...marker, color: colour(index) } };
    const numeric = series.x.every((x) => typeof x === "number");
    if (record.kind !== "lines" || !series.spread || !numeric) return [{ ...drawn, error_y: whiskers(series) }];
    const edge = (sign) => series.y.map((y, at) => (y === null ? null : y + sign * (series.spread[at] ?? 0)));
    const band = {
      x: [...series.x, ...[...series.x].reverse()], y: [...edge(1), ...edge(-1).reverse()], visible: shown, type: "scatter", mode: "lines",
      fill: "toself", fillcolor: faint(colour(index)), line: { width: 0 }, hoverinfo: "skip", showlegend: false,
    };
    return [band, drawn];
  }

  const whiskers = (series) => (series.spread ? { type: "data", array: series.spread, thickness: 1.2 } : undefined);

  function layout(record) {
    const axis = (title, logarithmic, from) => ({
      title: { text: plain(words(title)), standoff: 8 }, type: logarithmic ? "log" : undefined, rangemode: from, automargin: true,
      gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), tickcolor: css("--line"),
    });
    return {
      xaxis: axis(record.x, record.log_x, "normal"), yaxis: axis(record.y, record.log_y, record.log_y ? "normal" : "tozero"),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: FONT, color: css("--quiet"), size: 13 },
      margin: { l: 56, r: 12, t: 12, b: 48 }, height: 400, barmode: "group", hovermode: "closest",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--ink") },
    };
  }

  function start(figure) {
    const plot = figure.querySelector(".plot"), legend = figure.querySelector(".legend");
    const record = JSON.parse(figure.querySelector("script").textContent);
    const shown = record.series.map(() => true);
    const draw = () => {
      const data = record.series.flatMap((series, index) => traces(record, series, index, shown[index]));
      Plotly.react(plot, data, layout(record), CONFIG);
    };
    const name = () => record.series.forEach((series, index) => (legend.children[index].lastChild.textContent = words(series.name)));
    if (record.series.length > 1) {
      record.series.forEach((series, index) => {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-pressed", "true");
        button.innerHTML = sample(record, index);
        button.append(document.createElement("span"));
        button.addEventListener("click", () => {
          shown[index] = !shown[index];
          button.setAttribute("aria-pressed", String(shown[index]));
          draw();
        });
        legend.append(button);
      });
      name();
    }
    const again = () => {
      if (record.series.length > 1) name();
      draw();
    };
    draw();
    language.onChange(again);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  }

  /** Return a legend's sample of a series: a bar, or a line with its dashes. */
  function sample(record, index) {
    const stroke = { solid: "", dash: "6 3", dot: "2 2", dashdot: "6 2 2 2", longdash: "9 3", longdashdot: "9 2 2 2" }[DASHES[index % DASHES.length]];
    const drawn = record.kind === "bars"
      ? `<rect x="4" y="2" width="16" height="10" fill="${colour(index)}"/>`
      : record.kind === "points"
        ? `<circle cx="12" cy="7" r="4" fill="${colour(index)}"/>`
        : `<path d="M0 7H24" stroke="${colour(index)}" stroke-width="2.5" stroke-dasharray="${stroke}"/>`;
    return `<svg width="24" height="14" aria-hidden="true">${drawn}</svg>`;
  }

  const waiting = new Set(document.querySelectorAll("figure.picture"));
  const once = (figure) => waiting.delete(figure) && start(figure);
  const near = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => once(entry.target)), { rootMargin: "600px" });
  waiting.forEach((figure) => near.observe(figure));
  const all = () => waiting.forEach(once);
  addEventListener("beforeprint", all);
  // The rest while nothing else is to be done, so that a search or a jump finds everything in place.
  const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
  const next = () => idle(() => {
    const [figure] = waiting;
    if (figure) once(figure);
    if (waiting.size) next();
  });
  addEventListener("load", next);
  return { all };
})();
