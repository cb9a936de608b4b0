"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Tables: a click goes through ascending, descending and the study's own order.

  const NUMBER = /^(?:[<>] )?([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)/i;

  function numberIn(text) {
    const found = text.trim().replaceAll("\u2212", "-").replace(/(\d),(?=\d{3})/g, "$1").match(NUMBER);
    return found ? Number(found[1]) : NaN;
  }

  const isEmpty = (text) => /^[\u2013\u2014-]?$/.test(text.trim());

  function sorted(rows, column, direction) {
    const text = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
    const filled = rows.filter((row) => !isEmpty(text(row)));
    const empty = rows.filter((row) => isEmpty(text(row)));
    const isNumeric = filled.every((row) => !Number.isNaN(numberIn(text(row))));
    const compare = isNumeric
      ? (a, b) => numberIn(text(a)) - numberIn(text(b))
      : (a, b) => text(a).localeCompare(text(b), "en", { numeric: true });
    const sign = direction === "descending" ? -1 : 1;
    return [...filled.sort((a, b) => sign * compare(a, b)), ...empty];
  }

  function makeSortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    if (original.length < 2) return;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" };
        const direction = next[head.getAttribute("aria-sort")];
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", direction);
        const rows = direction === "none" ? original : sorted([...original], column, direction);
        body.append(...rows);
      });
    });
  }

  // Figures open large; Esc, the button and a click beside the figure close.

  function makeViewer(dialog) {
    const image = dialog.querySelector("img");
    const text = dialog.querySelector("p");
    for (const button of all(".enlarge")) {
      button.addEventListener("click", () => {
        const small = button.querySelector("img");
        image.src = small.src;
        image.alt = small.alt;
        text.textContent = button.closest("figure").querySelector("figcaption").textContent;
        dialog.showModal();
      });
    }
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }

  // Samples: one milestone of all arms at a time.

  function makeFlick(flick) {
    const slider = flick.querySelector("input[type=range]");
    const output = flick.querySelector("output");
    const seeds = flick.querySelector("select");
    const steps = slider.dataset.steps.split(" ");

    function show(index) {
      const at = Math.min(steps.length - 1, Math.max(0, index));
      const seed = seeds ? seeds.value : flick.dataset.seed;
      slider.value = String(at);
      const words = `step ${Number(steps[at]).toLocaleString("en")} of ${flick.dataset.total}`;
      output.textContent = words;
      slider.setAttribute("aria-valuetext", words);
      for (const slots of all(".slots", flick)) {
        let shown = 0;
        for (const slot of all(".slot", slots)) {
          const { seed: own, first, last } = slot.dataset;
          slot.hidden = own !== seed || at < Number(first) || at > Number(last);
          slot.classList.toggle("other", own !== seed);
          shown += slot.hidden ? 0 : 1;
        }
        slots.querySelector(".empty").hidden = shown > 0;
      }
    }

    slider.addEventListener("input", () => show(Number(slider.value)));
    if (seeds) seeds.addEventListener("change", () => show(Number(slider.value)));
    for (const button of all("button[data-go]", flick)) {
      button.addEventListener("click", () => show(Number(slider.value) + Number(button.dataset.go)));
    }
    flick.addEventListener("keydown", (event) => {
      const go = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!go || event.target === slider || event.target === seeds) return;
      event.preventDefault();
      show(Number(slider.value) + go);
    });
    show(steps.length - 1);
  }

  // Copying: to the clipboard, or into a text area where there is none.

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const status = button.parentElement.querySelector("[role=status]");
    try {
      await navigator.clipboard.writeText(source.value);
      status.textContent = `${button.textContent.trim()}: done.`;
    } catch {
      source.hidden = false;
      source.focus();
      source.select();
      status.textContent = "The clipboard is closed to this page; copy the marked text below.";
    }
  }

  all("table.sortable").forEach(makeSortable);
  all("dialog").forEach(makeViewer);
  all("[data-flick]").forEach(makeFlick);
  for (const button of all("[data-copy]")) button.addEventListener("click", () => copy(button));

  // Paper shows what a click would open, and leaves it afterwards as it was.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((details) => { details.open = true; });
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((details) => { details.open = false; });
  });
})();
