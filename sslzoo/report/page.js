// What the page does beyond being read: values under the pointer, classes that stand out, tables that sort.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  // text only: names come from runs
  const say = (lines, x, y) => {
    tip.replaceChildren(...lines.map(([text, look]) => {
      const line = document.createElement("div");
      line.textContent = text;
      if (look) line.className = look;
      return line;
    }));
    tip.hidden = false;
    const box = tip.getBoundingClientRect(), wide = document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, Math.min(x + 14, wide - box.width - 4)) + scrollX}px`;
    tip.style.top = `${(y - box.height - 12 < 0 ? y + 18 : y - box.height - 12) + scrollY}px`;
  };
  const hush = () => { tip.hidden = true; };
  const numbers = text => (text || "").split(" ").filter(Boolean).map(Number);
  const look = element => [...element.classList].find(name => /^c[0-9x]$/.test(name)) || "";
  const make = (name, values) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
    return element;
  };

  // where a client's point is, in the drawing's own units
  const inside = (svg, event) => {
    const at = svg.createSVGPoint();
    at.x = event.clientX;
    at.y = event.clientY;
    return at.matrixTransform(svg.getScreenCTM().inverse());
  };
  const outside = (svg, x, y) => {
    const at = svg.createSVGPoint();
    at.x = x;
    at.y = y;
    return at.matrixTransform(svg.getScreenCTM());
  };

  for (const svg of document.querySelectorAll("svg.curve[data-x]")) {
    const [x0, x1, left, right] = numbers(svg.dataset.x), [y0, y1, top, bottom] = numbers(svg.dataset.y);
    const series = [...svg.querySelectorAll("g.series")].map(g => ({
      name: g.dataset.name, look: look(g),
      steps: numbers(g.dataset.s), values: numbers(g.dataset.v), means: numbers(g.dataset.m),
    }));
    const steps = [...new Set(series.flatMap(one => one.steps))].sort((a, b) => a - b);
    const px = x => left + (x - x0) / ((x1 - x0) || 1) * (right - left);
    const py = y => (y1 > y0 ? bottom - (y - y0) / (y1 - y0) * (bottom - top) : (top + bottom) / 2);
    const nearest = (list, x) => list.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(list[best] - x) ? i : best), 0);
    const marks = make("g", { class: "marks" });
    let place = -1;
    svg.append(marks);
    const clear = () => { marks.replaceChildren(); hush(); };
    const point = (index, clientY) => {
      place = index;
      const step = steps[index], lines = [[`step ${step}`, "head"]], dots = [];
      for (const one of series) {
        const i = nearest(one.steps, step);
        if (Math.abs(one.steps[i] - step) > (x1 - x0) / 30) continue;
        const mean = one.means.length ? `, mean ${one.means[i]}` : "";
        const name = one.name && series.length > 1 ? `${one.name} ` : "";
        lines.push([`${name}${one.values[i]}${mean}`, one.look]);
        dots.push(make("circle", { cx: px(one.steps[i]), cy: py(one.values[i]), r: 2.6, class: `mark ${one.look}` }));
      }
      marks.replaceChildren(make("line", { x1: px(step), x2: px(step), y1: top - 4, y2: bottom, class: "rule" }), ...dots);
      const at = outside(svg, px(step), top);
      say(lines, at.x, clientY === undefined ? at.y : clientY);
    };
    svg.addEventListener("pointermove", event => {
      const at = inside(svg, event);
      point(nearest(steps, x0 + (at.x - left) / (right - left) * (x1 - x0)), event.clientY);
    });
    svg.addEventListener("pointerleave", clear);
    svg.addEventListener("blur", clear);
    svg.addEventListener("keydown", event => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") clear();
      if (!move) return;
      event.preventDefault();
      point(Math.max(0, Math.min(steps.length - 1, place < 0 ? (move > 0 ? 0 : steps.length - 1) : place + move)));
    });
  }

  for (const svg of document.querySelectorAll("svg.plane")) {
    const names = JSON.parse(svg.dataset.names || "[]"), dots = [];
    for (const path of svg.querySelectorAll("path")) {
      const label = numbers(path.dataset.l), said = numbers(path.dataset.p);
      path.getAttribute("d").split("M").slice(1).forEach((piece, i) => {
        const [x, y] = piece.replace("h0", "").split(" ").map(Number);
        const name = value => (names.length ? names[value] : value);
        const told = said.length && (names.length ? said[i] !== label[i] : true) ? `taken for ${name(said[i])}` : "";
        dots.push({ x, y, look: look(path), lines: [[`${name(label[i])}`, look(path)], ...(told ? [[told, ""]] : [])] });
      });
    }
    const mark = make("circle", { r: 4.5, class: "ring" });
    svg.append(mark);
    mark.style.display = "none";
    const clear = () => { mark.style.display = "none"; hush(); };
    svg.addEventListener("pointermove", event => {
      const at = inside(svg, event), far = dot => (dot.x - at.x) ** 2 + (dot.y - at.y) ** 2;
      const alone = svg.closest(".planes").dataset.alone;
      const best = dots.reduce((a, b) => (alone && b.look !== alone ? a : a && far(a) <= far(b) ? a : b), null);
      if (!best || far(best) > 100) { clear(); return; }
      mark.setAttribute("cx", best.x);
      mark.setAttribute("cy", best.y);
      mark.style.display = "";
      say(best.lines, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", clear);
  }

  // one class of a legend, or one run, stands out: while it is pointed at, or until it is pressed again
  for (const legend of document.querySelectorAll(".classes, .legend")) {
    const buttons = [...legend.querySelectorAll("button")], field = legend.closest(".planes, .overlay");
    let kept = "";
    const show = name => { if (name) field.dataset.alone = name; else delete field.dataset.alone; };
    for (const button of buttons) {
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("pointerenter", () => show(look(button)));
      button.addEventListener("pointerleave", () => show(kept));
      button.addEventListener("click", () => {
        kept = kept === look(button) ? "" : look(button);
        for (const other of buttons) other.setAttribute("aria-pressed", String(look(other) === kept));
        show(kept);
      });
    }
  }

  document.addEventListener("pointerover", event => {
    const found = event.target.closest && event.target.closest("[data-tip]");
    if (found) say([[found.dataset.tip, ""]], event.clientX, event.clientY);
  });
  document.addEventListener("pointerout", event => {
    if (event.target.closest && event.target.closest("[data-tip]")) hush();
  });
  document.addEventListener("keydown", event => { if (event.key === "Escape") hush(); });

  // a row and the rows of neighbours below it move together
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], units = [];
    for (const row of body.rows) {
      if (row.classList.contains("knn") && units.length) units[units.length - 1].push(row);
      else units.push([row]);
    }
    if (units.length < 2) continue;
    const value = (unit, column) => unit[0].cells[column].dataset.value;
    heads.forEach((head, column) => {
      if (head.tagName !== "TH") return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const numeric = units.some(unit => value(unit, column) !== undefined && !isNaN(Number(value(unit, column))));
        const before = head.getAttribute("aria-sort");
        const sort = before === "none" ? (numeric ? "descending" : "ascending")
          : before === (numeric ? "descending" : "ascending") ? (numeric ? "ascending" : "descending") : "none";
        for (const other of heads) if (other.tagName === "TH") other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", sort);
        table.classList.toggle("sorted", sort !== "none");
        const sign = sort === "descending" ? -1 : 1;
        const order = sort === "none" ? units : [...units].sort((a, b) => {
          const [one, other] = [value(a, column), value(b, column)];
          if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
          return sign * (numeric ? Number(one) - Number(other) : one.localeCompare(other));
        });
        body.append(...order.flat());
      });
    });
  }
})();
