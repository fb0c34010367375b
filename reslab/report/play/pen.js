"use strict";
// Drawing a digit, and what the network sees of it. The data set's digits were written by hand, brought to 32×32 black and white pixels and counted in squares of 4×4
// (Alpaydin and Kaynak 1998): so is what is drawn here, once it fills the height as theirs do.

const pen = (() => {
  const SIDE = 8; // pixels that a network sees
  const SQUARE = 4; // finer pixels in each
  const WIDTH = 0.16; // of the stroke, per side of the image: about that of the digits

  /** Let a canvas be drawn on; `changed` is called with the strokes, each a list of points between 0 and 1. */
  function attach(canvas, changed) {
    let strokes = [];
    let drawing = false;
    const point = (event) => {
      const { left, top, width, height } = canvas.getBoundingClientRect();
      return [(event.clientX - left) / width, (event.clientY - top) / height];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return; // a second finger draws no other stroke
      canvas.setPointerCapture(event.pointerId);
      drawing = true;
      strokes.push([point(event)]);
      changed(strokes);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drawing || !event.isPrimary) return;
      strokes.at(-1).push(...(event.getCoalescedEvents?.() ?? []).map(point), point(event));
      changed(strokes);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drawing = false));
    return { clear: () => (strokes = []) };
  }

  function trace(context, strokes, place, width) {
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = width;
    for (const stroke of strokes) {
      context.beginPath();
      context.moveTo(...place(stroke[0]));
      for (const point of stroke) context.lineTo(...place(point));
      context.stroke();
    }
  }

  /** Draw the strokes as they were drawn. */
  function show(canvas, strokes, colour) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.strokeStyle = colour;
    trace(context, strokes, ([x, y]) => [x * canvas.width, y * canvas.height], WIDTH * canvas.width);
  }

  /** Return the 8×8 image of strokes, between 0 and 1: moved to the middle, and as high as the image. */
  function pixels(strokes) {
    const fine = SIDE * SQUARE;
    const points = strokes.flat();
    const [[left, right], [top, bottom]] = [0, 1].map((axis) => [Math.min(...points.map((p) => p[axis])), Math.max(...points.map((p) => p[axis]))]);
    const width = WIDTH * fine;
    const scale = (fine - width) / Math.max(bottom - top, right - left, 0.2); // a dot stays a dot
    const place = ([x, y]) => [fine / 2 + (x - (left + right) / 2) * scale, fine / 2 + (y - (top + bottom) / 2) * scale];
    const context = Object.assign(document.createElement("canvas"), { width: fine, height: fine }).getContext("2d", { willReadFrequently: true });
    trace(context, strokes, place, width);
    const { data } = context.getImageData(0, 0, fine, fine);
    const image = new Float32Array(SIDE * SIDE);
    for (let i = 0; i < fine * fine; i++) {
      const [x, y] = [i % fine, Math.floor(i / fine)];
      if (data[4 * i + 3] > 127) image[Math.floor(y / SQUARE) * SIDE + Math.floor(x / SQUARE)] += 1 / SQUARE ** 2;
    }
    return image;
  }

  return { attach, show, pixels };
})();
