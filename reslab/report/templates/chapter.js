// The chapter's pictures, unpacked when it is opened.

views.onOpen("chapter", () => {
  for (const image of document.querySelectorAll("img[data-packed]")) {
    packed.text(image.dataset.packed).then((svg) => {
      image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    });
  }
});
