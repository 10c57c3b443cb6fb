"use strict";
(() => {
  const every = 2000, patience = 10000; // ms
  const button = document.getElementById("pause");
  const trouble = document.getElementById("trouble");
  const moment = () => document.querySelector("main time").textContent;
  let paused = false, timer = 0, asking = false;

  // keep makes what comes look as the reader has left what is there.
  const keep = (old, next) => {
    const opened = new Set(), focused = document.activeElement;
    for (const d of old.querySelectorAll("details[open]")) opened.add(d.dataset.key);
    for (const d of next.querySelectorAll("details")) d.open = opened.has(d.dataset.key);
    const of = focused && old.contains(focused) ? focused.closest("details") : null;
    old.replaceWith(next);
    if (!of || focused.tagName !== "SUMMARY") return;
    for (const d of next.querySelectorAll("details")) {
      if (d.dataset.key === of.dataset.key) {
        d.querySelector("summary").focus({ preventScroll: true });
        return;
      }
    }
  };

  const reading = () => {
    const s = document.getSelection(), main = document.querySelector("main");
    return s && !s.isCollapsed && main.contains(s.anchorNode);
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (paused || document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch(location.href.split("#")[0], {
        headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(patience),
      });
      if (!answer.ok) throw new Error("status " + answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.querySelector("main");
      if (!next) throw new Error("the answer is another page");
      if (!paused && !reading()) {
        keep(document.querySelector("main"), document.adoptNode(next));
        document.title = page.title;
      }
      if (trouble.textContent) trouble.textContent = "";
    } catch (err) {
      const text = "No answer: this is how it was at " + moment() + " (" + err.message + "). Trying again.";
      if (trouble.textContent !== text) trouble.textContent = text;
    } finally {
      asking = false;
      timer = setTimeout(refresh, every);
    }
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on" : "Pause";
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, every);
})();
