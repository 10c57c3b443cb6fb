"use strict";
(() => {
  const every = 2000, patience = 10000; // ms
  const button = document.getElementById("pause");
  const trouble = document.getElementById("trouble");
  const moment = () => document.querySelector("main time").textContent;
  let paused = false, timer = 0, asking = false;

  // details returns the details elements of main by names that stay the same.
  const details = (main) => {
    const all = new Map();
    for (const d of main.querySelectorAll("details")) {
      let name = d.dataset.key, n = 1;
      while (all.has(name)) name = d.dataset.key + "#" + ++n;
      all.set(name, d);
    }
    return all;
  };

  // keep replaces old by next. Details that are open stay open, and the focus stays.
  const keep = (old, next) => {
    const now = details(next), focused = document.activeElement;
    let focus = null;
    for (const [name, d] of details(old)) {
      const same = now.get(name);
      if (!same) continue;
      same.open = d.open;
      if (focused === d.querySelector("summary")) focus = same.querySelector("summary");
    }
    old.replaceWith(next);
    if (focus) focus.focus({ preventScroll: true });
  };

  // say shows a text. Screen readers read each change aloud, so an equal text is not set.
  const say = (text) => {
    if (trouble.textContent !== text) trouble.textContent = text;
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
      if (paused) return;
      if (reading()) {
        say("Text is selected: the page shows " + moment() + ".");
        return;
      }
      keep(document.querySelector("main"), document.adoptNode(next));
      document.title = page.title;
      say("");
    } catch (err) {
      say("No answer (" + err.message + "): the page shows " + moment() + ". Trying again.");
    } finally {
      asking = false;
      timer = setTimeout(refresh, every);
    }
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume" : "Pause";
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, every);
})();
