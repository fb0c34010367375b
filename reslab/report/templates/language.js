"use strict";
// The language: the reader's last choice, else the browser's. It runs before the page is drawn, so that nothing flickers.

const language = (() => {
  // Asked for before the first text is laid out: Chromium keeps what it lays out without the font as boxes.
  document.fonts.load('1em "Reslab Hangul"', "가").catch(() => {});

  const KEY = "reslab-language";
  const listeners = [];

  function remembered() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // a browser may refuse storage to a file
    }
  }

  function set(chosen) {
    document.documentElement.lang = chosen;
    for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === chosen));
    for (const listener of listeners) listener(chosen);
  }

  function choose(chosen) {
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // it is chosen for this visit alone
    }
    set(chosen);
  }

  const first = remembered() ?? ((navigator.languages ?? [navigator.language])[0] ?? "ko");
  set(first.toLowerCase().startsWith("ko") ? "ko" : "en");
  document.addEventListener("DOMContentLoaded", () => {
    set(document.documentElement.lang);
    for (const button of document.querySelectorAll("[data-language]")) button.addEventListener("click", () => choose(button.dataset.language));
  });
  return { current: () => document.documentElement.lang, onChange: (listener) => listeners.push(listener) };
})();
