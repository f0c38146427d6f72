"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const status = $("#status");

  function make(tag, properties = {}, attributes = {}) {
    const element = Object.assign(document.createElement(tag), properties);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  // Formats milliseconds as 1:02:03, or 02:03 below an hour.
  function clock(time) {
    const seconds = Math.round(time / 1000);
    const two = (n) => String(n).padStart(2, "0");
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${two(m)}:${two(s)}`;
  }

  // The smallest tick distance in milliseconds that leaves room for the labels.
  function tickStep(duration, width) {
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400];
    const least = (duration / width) * 72;
    const step = steps.map((s) => s * 1000).find((s) => s >= least);
    return step ?? Math.ceil(least / 86400000) * 86400000;
  }

  // `spans` is [first, last, first, last, …] in order. Spans less than `gap` apart are joined.
  function merge(spans, gap) {
    const merged = [];
    for (let i = 0; i < spans.length; i += 2) {
      const end = merged.length - 1;
      if (end > 0 && spans[i] - merged[end] < gap) merged[end] = Math.max(merged[end], spans[i + 1]);
      else merged.push(spans[i], spans[i + 1]);
    }
    return merged;
  }

  function covers(spans, time) {
    let [low, high] = [0, spans.length / 2];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans[2 * middle] <= time) low = middle + 1;
      else high = middle;
    }
    return low > 0 && time <= spans[2 * low - 1];
  }

  class Timeline {
    constructor(section) {
      this.data = JSON.parse($("script.data", section).textContent);
      this.root = $(".timeline", section);
      this.video = $("video", section);
      this.hint = $(".player .hint", section);
      this.zoom = 1;
      this.width = 0;
      this.time = 0;
      const heads = section.querySelectorAll("tbody th");
      this.rows = this.data.rows.map((spans, i) => this.row(spans, heads[i]));
      this.build();
      if (this.video) this.watch();
      new ResizeObserver(() => this.draw()).observe(this.scroller);
      this.draw();
      this.move(0);
    }

    // Reuses the name and the picture from the table.
    row(spans, head) {
      const name = $("bdi", head);
      const who = make("div", { className: "who", title: name.textContent }, { role: "rowheader" });
      who.append($(".face", head).cloneNode(), name.cloneNode(true));
      const bar = make("div", { className: "bar" });
      const unknown = name.className === "unknown" ? " unknown" : "";
      const line = make("div", { className: "line" + unknown }, { role: "row" });
      line.append(who, bar);
      return { spans, name: name.textContent, bar, line, buttons: [] };
    }

    build() {
      const title = this.root.dataset.title;
      const tools = make("div", { className: "tools" }, { role: "group", "aria-label": "Timeline" });
      this.out = make("button", { type: "button", textContent: "−" }, { "aria-label": "Zoom out" });
      this.in = make("button", { type: "button", textContent: "+" }, { "aria-label": "Zoom in" });
      this.position = make("span", { className: "position" });
      const help = make("span", {
        className: "facts",
        id: `${this.root.parentElement.parentElement.id}-help`,
        textContent: "Click or press Enter to jump there; arrow keys move between appearances.",
      });
      tools.append(this.out, this.in, help, this.position);
      this.out.addEventListener("click", () => this.scale(this.zoom / 2));
      this.in.addEventListener("click", () => this.scale(this.zoom * 2));

      this.axis = make("div", { className: "axis" }, { "aria-hidden": "true" });
      this.grid = make("div", {}, {
        role: "grid", "aria-label": `Who is on screen when in ${title}`, "aria-describedby": help.id,
      });
      this.grid.append(...this.rows.map((row) => row.line));
      this.cursor = make("div", { className: "cursor" });
      this.canvas = make("div", { className: "canvas" });
      this.canvas.append(this.axis, this.grid, this.cursor);
      this.scroller = make("div", { className: "scroller" });
      this.scroller.append(this.canvas);
      this.root.append(tools, this.scroller);

      this.grid.addEventListener("click", (event) => this.click(event));
      this.grid.addEventListener("keydown", (event) => this.key(event));
      this.grid.addEventListener("focusin", (event) => this.rove(event.target));
    }

    // The strip of expressions below the spans of a row. The table tells the same in words.
    moods(index, duration) {
      const moods = this.data.moods?.[index] ?? [];
      const strip = [];
      for (let i = 0; i < moods.length; i += 3) {
        const [first, last, which] = moods.slice(i, i + 3);
        const name = this.data.expressions[which];
        const known = ["neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"];
        const className = known.includes(name) ? `mood ${name}` : "mood";
        const mark = make("span", { className, title: name }, { "aria-hidden": "true" });
        mark.style.left = `${(100 * first) / duration}%`;
        mark.style.width = `${(100 * (last - first)) / duration}%`;
        strip.push(mark);
      }
      return strip;
    }

    scale(zoom) {
      const before = this.zoom;
      const middle = this.scroller.clientWidth / 2;
      this.zoom = Math.min(Math.max(zoom, 1), 16);
      const who = this.who();
      const at = (this.scroller.scrollLeft + middle - who) / before;
      this.draw();
      this.scroller.scrollLeft = at * this.zoom - middle + who;
      status.textContent = `Zoom ${this.zoom}`;
    }

    who() {
      return this.rows[0].bar.offsetLeft;
    }

    // Redraws the spans if their width in pixels has changed.
    draw() {
      const who = this.who();
      const width = Math.max(this.scroller.clientWidth - who, 100) * this.zoom;
      this.out.disabled = this.zoom <= 1;
      this.in.disabled = this.zoom >= 16;
      if (width === this.width) return;
      this.width = width;
      this.canvas.style.width = `${who + width}px`;
      const { duration } = this.data;
      const focused = this.grid.contains(document.activeElement) ? document.activeElement : null;
      const kept = focused && [focused.row, Number(focused.dataset.first)];
      for (const [index, row] of this.rows.entries()) {
        const spans = merge(row.spans, duration / width);
        row.buttons = [];
        for (let i = 0; i < spans.length; i += 2) {
          const [first, last] = [spans[i], spans[i + 1]];
          const label = `${row.name}, ${clock(first)} to ${clock(last)}`;
          const button = make("button", { type: "button", className: "span", tabIndex: -1, row: index }, {
            role: "gridcell", "aria-label": label, "data-first": first, "data-last": last,
          });
          button.style.left = `${(100 * first) / duration}%`;
          button.style.width = `${(100 * (last - first)) / duration}%`;
          row.buttons.push(button);
        }
        row.bar.replaceChildren(...row.buttons, ...this.moods(index, duration));
      }
      const first = this.rows.find((row) => row.buttons.length > 0);
      this.current = null;
      if (kept) this.nearest(this.rows[kept[0]], kept[1])?.focus();
      else if (first) this.rove(first.buttons[0]);

      const step = tickStep(duration, width);
      const ticks = [];
      for (let time = 0; time < duration; time += step) {
        const tick = make("span", { textContent: clock(time) });
        tick.style.left = `${who + (time / duration) * width}px`;
        ticks.push(tick);
      }
      this.axis.replaceChildren(...ticks);
      this.move(this.time);
    }

    // One span at a time is in the tab order.
    rove(button) {
      if (!button.classList.contains("span")) return;
      if (this.current) this.current.tabIndex = -1;
      button.tabIndex = 0;
      this.current = button;
    }

    nearest(row, time) {
      const distance = (b) => Math.max(b.dataset.first - time, time - b.dataset.last, 0);
      return row.buttons.reduce((a, b) => (!a || distance(b) < distance(a) ? b : a), null);
    }

    key(event) {
      const button = event.target;
      if (!button.classList.contains("span")) return;
      const { buttons } = this.rows[button.row];
      const filled = this.rows.filter((row) => row.buttons.length > 0);
      const line = filled.indexOf(this.rows[button.row]);
      const at = buttons.indexOf(button);
      const other = (step) => {
        const row = filled[Math.min(Math.max(line + step, 0), filled.length - 1)];
        return row === filled[line] ? button : this.nearest(row, Number(button.dataset.first));
      };
      const all = event.ctrlKey;
      const targets = {
        ArrowLeft: () => buttons[at - 1],
        ArrowRight: () => buttons[at + 1],
        ArrowUp: () => other(-1),
        ArrowDown: () => other(1),
        PageUp: () => other(-10),
        PageDown: () => other(10),
        Home: () => (all ? filled[0].buttons : buttons).at(0),
        End: () => (all ? filled.at(-1).buttons : buttons).at(-1),
      };
      if (!(event.key in targets)) return;
      event.preventDefault();
      targets[event.key]()?.focus();
    }

    click(event) {
      const bar = event.target.closest(".bar");
      if (!bar) return;
      const box = bar.getBoundingClientRect();
      let time = ((event.clientX - box.left) / box.width) * this.data.duration;
      const span = event.target.closest(".span");
      if (span) {
        const [first, last] = [Number(span.dataset.first), Number(span.dataset.last)];
        // The keyboard gives no position in the span.
        time = event.detail === 0 ? first : Math.min(Math.max(time, first), last);
      }
      this.seek(time);
    }

    seek(time) {
      this.move(time);
      status.textContent = `Position ${clock(time)}`;
      if (!this.video || this.video.hidden) return;
      this.video.preload = "auto";
      this.video.currentTime = time / 1000;
    }

    // Shows the position of the video.
    move(time) {
      this.time = time;
      const { duration } = this.data;
      const x = this.who() + Math.min(time / duration, 1) * this.width;
      this.cursor.style.transform = `translateX(${x}px)`;
      this.position.textContent = `${clock(time)} of ${clock(duration)}`;
      for (const row of this.rows) row.line.classList.toggle("now", covers(row.spans, time));
      const { scrollLeft, clientWidth } = this.scroller;
      const seen = x >= scrollLeft + this.who() && x <= scrollLeft + clientWidth;
      if (!seen && this.video && !this.video.paused) this.scroller.scrollLeft = x - this.who() - 16;
    }

    watch() {
      const { video } = this;
      const moved = () => {
        if (video.readyState > 0) this.move(video.currentTime * 1000);
      };
      for (const name of ["timeupdate", "seeking", "loadedmetadata"]) video.addEventListener(name, moved);
      const fail = () => {
        video.hidden = true;
        this.hint.hidden = false;
      };
      // Only the sound can be decoded.
      video.addEventListener("loadeddata", () => { this.hint.hidden = video.videoWidth > 0; });
      video.addEventListener("error", fail);
      // The last source to try.
      $("source:last-of-type", video).addEventListener("error", fail);
      // A page with many videos loads only those that scroll into view.
      new IntersectionObserver((entries, observer) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        if (video.preload === "none") video.preload = "metadata";
      }).observe(video);
    }
  }

  async function copy(button) {
    const code = document.getElementById(button.dataset.copy);
    let copied = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      copied = document.execCommand("copy");
    }
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    status.textContent = copied ? "Copied" : "Selected; press Ctrl+C to copy";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  // Shows whom somebody was with, while the pointer is on them.
  function pick(graph) {
    const members = [...graph.querySelectorAll("g")];
    const lines = [...graph.querySelectorAll("path")];
    members.forEach((member, i) => {
      member.addEventListener("pointerenter", () => {
        const shown = new Set([i]);
        for (const line of lines) {
          const [a, b] = [Number(line.dataset.a), Number(line.dataset.b)];
          line.classList.toggle("picked", a === i || b === i);
          if (a === i) shown.add(b);
          if (b === i) shown.add(a);
        }
        members.forEach((other, j) => other.classList.toggle("picked", shown.has(j)));
        graph.classList.add("picking");
      });
      member.addEventListener("pointerleave", () => graph.classList.remove("picking"));
    });
  }

  for (const graph of document.querySelectorAll(".company")) pick(graph);
  for (const section of document.querySelectorAll(".input")) {
    if ($(".timeline", section)) new Timeline(section);
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
  // Formats that this browser cannot show.
  for (const image of document.querySelectorAll(".picture img")) {
    const hide = () => { image.parentElement.hidden = true; };
    if (image.complete && image.naturalWidth === 0 && image.src) hide();
    image.addEventListener("error", hide);
  }
})();
