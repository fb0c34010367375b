// What is unpacked, or begins, when its view is opened: the explorer and the playground; and the chapter's pictures, which print waits for, once all else is there.

views.onOpen("explorer", () => packed.text("explorer-program").then(packed.run));

views.onOpen("play", () => {
  for (const module of document.querySelectorAll("script[id^=module-]")) packed.run(module.textContent);
});

addEventListener("load", () => {
  for (const image of document.querySelectorAll("img[data-packed]")) {
    packed.text(image.dataset.packed).then((svg) => {
      image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    });
  }
});
