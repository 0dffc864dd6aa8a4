"use strict";
/* Candlesticks with volume on a canvas: hover, zoom, pan, log axis, marks of splits and dividends. It draws what
   `lakehouse.apps.charts.payload` writes, in the dashboard and in the page of `lakehouse plot`, and loads nothing. */
(() => {
  const AXIS = 72, BELOW = 36, ABOVE = 10, GAP = 22, MARK = 9;
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const SPANS = [["1M", 21], ["3M", 63], ["6M", 126], ["1Y", 252], ["5Y", 1260]];

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }
  function price(value) {
    let text = value.toFixed(Math.abs(value) < 1 ? 6 : 4);
    text = text.replace(/(\.\d\d\d*?)0+$/, "$1");
    const [whole, part] = text.split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ",") + "." + part;
  }
  function quantity(value) {
    for (const [size, unit] of [[1e12, "tn"], [1e9, "bn"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(value) >= size) return +(value / size).toPrecision(3) + unit;
    return String(+value.toPrecision(3));
  }
  function monday(day) {
    const moment = new Date(day + "T00:00:00Z");
    moment.setUTCDate(moment.getUTCDate() - (moment.getUTCDay() + 6) % 7);
    return moment.toISOString().slice(0, 10);
  }
  /* From fine to coarse: what begins a new unit, its text, and the pixels that a label needs. */
  const UNITS = [
    [day => day, day => DAYS[new Date(day + "T00:00:00Z").getUTCDay()] + " " + +day.slice(8) + " " + MONTHS[+day.slice(5, 7) - 1], 92],
    [monday, day => +day.slice(8) + " " + MONTHS[+day.slice(5, 7) - 1], 64],
    [day => day.slice(0, 7), day => MONTHS[+day.slice(5, 7) - 1], 44],
    [day => day.slice(0, 4) + Math.floor((day.slice(5, 7) - 1) / 3), day => MONTHS[+day.slice(5, 7) - 1], 44],
    [day => day.slice(0, 4), day => day.slice(0, 4), 46],
    [day => Math.floor(day.slice(0, 4) / 2), day => day.slice(0, 4), 46],
    [day => Math.floor(day.slice(0, 4) / 5), day => day.slice(0, 4), 46],
    [day => Math.floor(day.slice(0, 4) / 10), day => day.slice(0, 4), 46],
  ];

  class Candles {
    constructor(root, data) {
      this.root = root;
      this.data = data;
      this.view = 0;
      this.isLog = Boolean(data.log);
      this.pointers = new Map();
      this.hovered = null;
      this.end = data.kind === "daily" ? data.sessions.length : data.end;
      this.begin = data.kind === "daily" ? 0 : data.begin;
      this.least = data.kind === "daily" ? 8 : 10;
      this.keys = [];
      this.build();
      const spare = data.kind === "daily" ? Math.max(0, (12 - this.end) / 2) : (this.end - this.begin) / 100;
      this.whole = [this.begin - spare, this.end + spare];
      const first = data.kind === "daily" && data.shown ? Math.max(this.begin, this.end - data.shown) : this.whole[0];
      this.range = [first, this.whole[1]];
      this.choose(0);
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    }

    build() {
      const button = (group, text, act, title) => {
        const made = element("button", { type: "button", title: title || text, "aria-pressed": "false" }, text);
        made.addEventListener("click", () => { act(); made.blur(); });
        group.append(made);
        return made;
      };
      const group = label => element("span", { class: "chart-group", role: "group", "aria-label": label });
      this.bar = element("div", { class: "chart-bar" });
      if (this.data.kind === "daily") {
        const spans = group("Span");
        this.spans = SPANS.filter(([, count]) => count < this.end).map(([text, count]) =>
          [button(spans, text, () => this.show(this.end - count, this.whole[1])), count]);
        this.spans.push([button(spans, "All", () => this.show(...this.whole)), null]);
        this.bar.append(spans);
      } else {
        const spans = group("Span");
        this.spans = [[button(spans, "All", () => this.show(...this.whole)), null]];
        this.bar.append(spans);
      }
      if (this.data.views.length > 1) {
        const views = group("Prices");
        this.views = this.data.views.map((view, number) => button(views, view.name, () => this.choose(number)));
        this.bar.append(views);
      }
      const scale = group("Axis");
      this.log = button(scale, "Log", () => { this.isLog = !this.isLog; this.draw(); }, "Logarithmic price axis");
      this.bar.append(scale);
      this.legend = element("div", { class: "chart-legend", "aria-live": "off" });
      this.canvas = element("canvas", {
        tabindex: "0", role: "img", "aria-label": this.data.title +
          ": candlesticks and volume. Drag or use the arrow keys to move, the wheel or + and - to zoom, 0 to show all."
      });
      this.root.append(this.bar, this.legend, this.canvas);
      const on = (name, act, how) => this.canvas.addEventListener(name, act.bind(this), how);
      on("wheel", this.wheel, { passive: false });
      on("pointerdown", this.down);
      on("pointermove", this.move);
      on("pointerup", this.up);
      on("pointercancel", this.up);
      on("pointerleave", event => { if (!this.pointers.size) { this.hovered = null; this.draw(); } });
      on("dblclick", () => this.show(...this.whole));
      on("keydown", this.key);
    }

    choose(number) {
      this.view = number;
      const view = this.data.views[number];
      const { o, h, l, c, v, x } = view;
      this.rows = x.map((at, i) => ({ i, x: at, o: o[i], h: h[i], l: l[i], c: c[i], v: v[i] }));
      for (const place of document.querySelectorAll("[data-chart-notes]")) place.textContent = view.notes;
      for (const place of document.querySelectorAll("[data-chart-figure]"))
        place.textContent = view.figures[place.dataset.chartFigure];
      this.draw();
    }

    show(first, last) {
      const span = Math.min(Math.max(last - first, this.least), this.whole[1] - this.whole[0]);
      const middle = (first + last) / 2;
      first = Math.max(this.whole[0], Math.min(middle - span / 2, this.whole[1] - span));
      this.range = [first, first + span];
      this.draw();
    }
    zoom(factor, around) {
      const [first, last] = this.range;
      this.show(around - (around - first) * factor, around + (last - around) * factor);
    }
    at(event) { return this.range[0] + (event.offsetX - 2) / this.plot * (this.range[1] - this.range[0]); }
    wheel(event) {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const moved = event.deltaX / this.plot * (this.range[1] - this.range[0]);
        this.show(this.range[0] + moved, this.range[1] + moved);
      } else this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 300), this.at(event));
    }
    down(event) {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event.offsetX);
      this.moved = 0;
      this.hover(event);
    }
    move(event) {
      const before = this.pointers.get(event.pointerId);
      if (before !== undefined) {
        const xs = [...this.pointers.values()];
        this.pointers.set(event.pointerId, event.offsetX);
        const now = [...this.pointers.values()];
        const perPixel = (this.range[1] - this.range[0]) / this.plot;
        this.moved += Math.abs(event.offsetX - before);
        if (now.length === 2) {
          const wide = Math.max(20, Math.abs(now[0] - now[1])), was = Math.max(20, Math.abs(xs[0] - xs[1]));
          this.zoom(was / wide, this.range[0] + (now[0] + now[1]) / 2 * perPixel);
        } else if (event.pointerType !== "touch" || this.moved > 6)
          this.show(this.range[0] - (event.offsetX - before) * perPixel, this.range[1] - (event.offsetX - before) * perPixel);
      }
      this.hover(event);
    }
    up(event) {
      this.pointers.delete(event.pointerId);
      this.hover(event);
    }
    hover(event) {
      const at = this.at(event);
      let nearest = null;
      if (event.offsetX <= this.plot)
        for (const row of this.visible())
          if (nearest === null || Math.abs(this.middle(row) - at) < Math.abs(this.middle(nearest) - at)) nearest = row;
      this.hovered = nearest;
      this.pointer = event.offsetY;
      this.draw();
    }
    key(event) {
      const [first, last] = this.range, step = (last - first) / 8;
      const acts = {
        ArrowLeft: () => this.show(first - step, last - step), ArrowRight: () => this.show(first + step, last + step),
        "+": () => this.zoom(0.8, (first + last) / 2), "=": () => this.zoom(0.8, (first + last) / 2),
        "-": () => this.zoom(1.25, (first + last) / 2), 0: () => this.show(...this.whole),
      };
      if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
    }

    width(row) { return this.data.kind === "daily" ? 1 : this.data.views[this.view].width[row.i]; }
    middle(row) { return row.x + this.width(row) / 2; }
    visible() {
      return this.rows.filter(row => row.x + this.width(row) > this.range[0] && row.x < this.range[1]);
    }
    left(at) { return 2 + (at - this.range[0]) / (this.range[1] - this.range[0]) * this.plot; }

    draw() {
      if (!this.rows || !this.canvas.clientWidth) return;
      const wide = this.canvas.clientWidth, high = this.canvas.clientHeight, ratio = devicePixelRatio || 1;
      this.canvas.width = wide * ratio;
      this.canvas.height = high * ratio;
      this.plot = wide - AXIS - 2;
      const pen = this.pen = this.canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const style = getComputedStyle(this.root);
      this.colour = name => style.getPropertyValue(name).trim();
      pen.font = "12px " + style.fontFamily;
      const rows = this.visible();
      const bottom = high - BELOW, volumes = Math.round((bottom - ABOVE) * 0.2);
      const hasVolume = rows.some(row => row.v);
      this.area = [ABOVE, hasVolume ? bottom - volumes - GAP : bottom];
      this.grid(rows, bottom);
      pen.save();
      pen.beginPath();
      pen.rect(0, 0, this.plot + 2, bottom);
      pen.clip();
      if (hasVolume) this.volumes(rows, bottom, volumes);
      this.candles(rows);
      pen.restore();
      this.marks(bottom);
      this.last();
      this.crosshair(bottom);
      this.tell(rows);
    }

    scale(rows) {
      let low = Infinity, high = -Infinity;
      for (const row of rows) { low = Math.min(low, row.l); high = Math.max(high, row.h); }
      if (!rows.length) [low, high] = [1, 2];
      const before = this.data.previous;
      if (before != null && before > low - (high - low) && before < high + (high - low)) {
        low = Math.min(low, before); high = Math.max(high, before);
      }
      const canLog = low > 0;
      this.usesLog = this.isLog && canLog;
      const spare = this.usesLog ? Math.log(high / low) * 0.06 || 0.01 : (high - low) * 0.06 || Math.abs(high) * 0.01 || 1;
      const forward = this.usesLog ? Math.log : value => value, back = this.usesLog ? Math.exp : value => value;
      const [from, to] = [forward(low) - spare, forward(high) + spare], [top, foot] = this.area;
      // Room below the candles for the marks of splits and dividends.
      const base = foot - (this.data.marks.length ? 2 * MARK + 6 : 0);
      this.y = value => base - (forward(value) - from) / (to - from) * (base - top);
      this.priceAt = y => back(from + (base - y) / (base - top) * (to - from));
      this.bounds = [this.priceAt(foot), this.priceAt(top)];
    }
    steps() {
      const [low, high] = this.bounds, room = Math.max(2, Math.floor((this.area[1] - this.area[0]) / 44));
      if (this.usesLog && high / low > 4) {
        for (const digits of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
          const found = [];
          for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
            for (const digit of digits) found.push(digit * 10 ** power);
          const inside = found.filter(value => value > low && value < high);
          if (inside.length <= room || digits.length === 1) return inside;
        }
      }
      const rough = (high - low) / room, power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 2.5, 5, 10].map(each => each * power).find(each => each >= rough);
      const found = [];
      for (let value = Math.ceil(low / step) * step; value < high; value += step) found.push(+value.toPrecision(12));
      return found;
    }
    grid(rows, bottom) {
      const pen = this.pen;
      this.scale(rows);
      pen.lineWidth = 1;
      for (const shade of this.data.shades || []) {
        const from = Math.max(2, this.left(shade.begin)), to = Math.min(this.plot + 2, this.left(shade.end));
        if (to - from < 1) continue;
        pen.fillStyle = this.colour("--chart-shade");
        pen.fillRect(from, ABOVE, to - from, bottom - ABOVE);
        pen.fillStyle = this.colour("--chart-dim");
        pen.textAlign = "center";
        if (to - from > pen.measureText(shade.text).width + 6) pen.fillText(shade.text, (from + to) / 2, this.area[1] - 8);
      }
      pen.strokeStyle = this.colour("--chart-grid");
      pen.fillStyle = this.colour("--chart-dim");
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      const close = this.rows.length ? this.y(this.rows[this.rows.length - 1].c) : -99;
      for (const value of this.steps()) {
        const y = Math.round(this.y(value)) + 0.5;
        this.line(2, y, this.plot + 2, y);
        if (Math.abs(y - close) > 15) pen.fillText(price(value), this.plot + 8, y);
      }
      this.data.kind === "daily" ? this.dates(bottom) : this.times(bottom);
      pen.strokeStyle = this.colour("--chart-line");
      this.line(2, bottom + 0.5, this.plot + 2, bottom + 0.5);
      if (this.data.previous != null) {
        pen.setLineDash([5, 4]);
        pen.strokeStyle = this.colour("--chart-dim");
        const y = Math.round(this.y(this.data.previous)) + 0.5;
        if (y > this.area[0] && y < this.area[1]) {
          this.line(2, y, this.plot + 2, y);
          pen.textAlign = "left";
          pen.fillText("previous close", 8, y - 8);
        }
        pen.setLineDash([]);
      }
    }
    line(x, y, toX, toY) { this.pen.beginPath(); this.pen.moveTo(x, y); this.pen.lineTo(toX, toY); this.pen.stroke(); }
    /* Labels from left to right, each where it has room; the year goes below the first label of a year. */
    labels(found, bottom) {
      const pen = this.pen;
      let free = 0;
      pen.textAlign = "center";
      pen.textBaseline = "alphabetic";
      for (const [x, text, below] of found) {
        pen.strokeStyle = this.colour("--chart-grid");
        this.line(Math.round(x) + 0.5, ABOVE, Math.round(x) + 0.5, bottom);
        const half = Math.max(pen.measureText(text).width, below ? pen.measureText(below).width : 0) / 2;
        if (x - half < free || x + half > this.plot + AXIS) continue;
        pen.fillStyle = this.colour("--chart-dim");
        pen.fillText(text, x, bottom + 15);
        if (below) pen.fillText(below, x, bottom + 30);
        free = x + half + 10;
      }
      pen.textBaseline = "middle";
    }
    dates(bottom) {
      const sessions = this.data.sessions;
      const from = Math.max(0, Math.ceil(this.range[0] - 0.5)), to = Math.min(sessions.length, Math.ceil(this.range[1] - 0.5));
      for (let unit = 0; unit < UNITS.length; unit++) {
        const [key, text, room] = UNITS[unit];
        const keys = this.keys[unit] ||= sessions.map(key);
        const starts = [];
        for (let i = from; i < to; i++) if (i === 0 ? unit === 0 : keys[i] !== keys[i - 1]) starts.push(i);
        if (starts.length * room > this.plot && unit < UNITS.length - 1) continue;
        let year = "";
        const found = starts.map(i => {
          const own = sessions[i].slice(0, 4), below = unit < 4 && own !== year ? own : "";
          year = own;
          return [this.left(i + 0.5), text(sessions[i]), below];
        });
        this.labels(found, bottom);
        return;
      }
    }
    times(bottom) {
      const span = this.range[1] - this.range[0];
      const step = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360].find(each => span / each * 52 <= this.plot) || 720;
      const base = this.data.base, found = [];
      for (let at = Math.ceil((this.range[0] + base) / step) * step - base; at <= this.range[1]; at += step) {
        const minute = ((at + base) % 1440 + 1440) % 1440;
        found.push([this.left(at), String(Math.floor(minute / 60)).padStart(2, "0") + ":" + String(Math.floor(minute % 60)).padStart(2, "0"), ""]);
      }
      this.labels(found, bottom);
    }
    tone(row) { return this.colour(row.c > row.o ? "--chart-up" : row.c < row.o ? "--chart-down" : "--chart-even"); }
    box(row) {
      const from = this.left(row.x), to = this.left(row.x + this.width(row));
      const wide = this.data.kind === "daily" ? (to - from) * 0.7 : Math.max(1, (to - from) * 0.78);
      return [(from + to) / 2, Math.max(wide, 1)];
    }
    candles(rows) {
      const pen = this.pen;
      for (const row of rows) {
        const [x, wide] = this.box(row), top = this.y(Math.max(row.o, row.c)), foot = this.y(Math.min(row.o, row.c));
        pen.strokeStyle = pen.fillStyle = this.tone(row);
        pen.lineWidth = wide > 5 ? 1.4 : 1;
        this.line(x, this.y(row.h), x, Math.min(this.y(row.l), this.y(row.h) + Math.max(1, this.y(row.l) - this.y(row.h))));
        if (wide < 2) continue;
        const high = Math.max(foot - top, 1);
        if (row.c > row.o && wide > 4) {
          pen.fillStyle = this.colour("--chart-paper");
          pen.fillRect(x - wide / 2, top, wide, high);
          pen.strokeRect(x - wide / 2 + 0.5, top + 0.5, wide - 1, Math.max(high - 1, 0.5));
        } else pen.fillRect(x - wide / 2, top, wide, high);
      }
      pen.lineWidth = 1;
    }
    volumes(rows, bottom, high) {
      const pen = this.pen, most = rows.reduce((found, row) => Math.max(found, row.v || 0), 0) || 1;
      pen.globalAlpha = 0.55;
      for (const row of rows) {
        const [x, wide] = this.box(row), tall = (row.v || 0) / most * high;
        pen.fillStyle = this.tone(row);
        pen.fillRect(x - wide / 2, bottom - tall, wide, tall);
      }
      pen.globalAlpha = 1;
      pen.fillStyle = this.colour("--chart-dim");
      pen.textAlign = "left";
      pen.fillText("Volume, up to " + quantity(most), 4, bottom - high - 9);
    }
    /* Marks that would overlap become one: of a split if there is one, else with their number. */
    marks(bottom) {
      const pen = this.pen, y = this.area[1] - MARK - 2;
      this.placed = [];
      for (const mark of this.data.marks) {
        const x = this.left(mark.x + 0.5);
        if (x < 2 || x > this.plot + 2) continue;
        const before = this.placed[this.placed.length - 1];
        if (before && x - before.x < 2 * MARK + 3) before.marks.push(mark);
        else this.placed.push({ x, marks: [mark] });
      }
      for (const { x, marks } of this.placed) {
        const kinds = new Set(marks.map(mark => mark.kind));
        const isSplit = kinds.has("split");
        const text = isSplit ? "S" : marks.length === 1 ? "D" : marks.length > 9 ? "9+" : String(marks.length);
        pen.strokeStyle = pen.fillStyle = this.colour(isSplit ? "--chart-split" : "--chart-dividend");
        if (isSplit || marks.length === 1) {
          pen.setLineDash([2, 3]);
          this.line(Math.round(x) + 0.5, ABOVE, Math.round(x) + 0.5, y - MARK);
          pen.setLineDash([]);
        }
        pen.beginPath();
        pen.arc(x, y, MARK, 0, 2 * Math.PI);
        pen.fill();
        pen.fillStyle = this.colour("--chart-paper");
        pen.textAlign = "center";
        pen.fillText(text, x, y + 0.5);
      }
    }
    tag(text, y, colour) {
      const pen = this.pen;
      pen.fillStyle = colour;
      pen.fillRect(this.plot + 3, y - 9, AXIS - 3, 18);
      pen.fillStyle = this.colour("--chart-paper");
      pen.textAlign = "left";
      pen.textBaseline = "middle";
      pen.fillText(text, this.plot + 8, y);
    }
    last() {
      const row = this.rows[this.rows.length - 1];
      if (!row) return;
      const y = this.y(row.c);
      if (y > this.area[0] && y < this.area[1]) this.tag(price(row.c), y, this.tone(row));
    }
    crosshair(bottom) {
      if (!this.hovered) return;
      const pen = this.pen, x = Math.round(this.left(this.middle(this.hovered))) + 0.5;
      pen.strokeStyle = this.colour("--chart-dim");
      pen.setLineDash([3, 3]);
      this.line(x, ABOVE, x, bottom);
      if (this.pointer > this.area[0] && this.pointer < this.area[1]) {
        this.line(2, Math.round(this.pointer) + 0.5, this.plot + 2, Math.round(this.pointer) + 0.5);
        pen.setLineDash([]);
        this.tag(price(+this.priceAt(this.pointer).toPrecision(6)), this.pointer, this.colour("--chart-text"));
      }
      pen.setLineDash([]);
      const text = this.when(this.hovered), wide = pen.measureText(text).width + 12;
      const from = Math.max(2, Math.min(x - wide / 2, this.plot - wide));
      pen.fillStyle = this.colour("--chart-text");
      pen.fillRect(from, bottom + 2, wide, 18);
      pen.fillStyle = this.colour("--chart-paper");
      pen.textAlign = "left";
      pen.fillText(text, from + 6, bottom + 11);
    }
    when(row) {
      return this.data.kind === "daily" ? this.data.sessions[row.x] : this.data.views[this.view].label[row.i];
    }
    tell(rows) {
      const row = this.hovered || rows[rows.length - 1];
      const pressed = (button, is) => button.setAttribute("aria-pressed", is ? "true" : "false");
      pressed(this.log, this.isLog);
      for (const [number, button] of (this.views || []).entries()) pressed(button, number === this.view);
      const isWhole = this.range[0] <= this.whole[0] + 0.01 && this.range[1] >= this.whole[1] - 0.01;
      for (const [button, count] of this.spans) {
        const from = this.end - count;
        pressed(button, count === null ? isWhole : !isWhole && Math.abs(this.range[0] - from) < 1 && this.range[1] >= this.end - 0.5);
      }
      const shown = this.root.dataset;
      shown.first = rows.length ? this.when(rows[0]) : "";
      shown.last = rows.length ? this.when(rows[rows.length - 1]) : "";
      shown.bars = rows.length;
      shown.scale = this.usesLog ? "log" : "linear";
      if (!row) { this.legend.replaceChildren("Nothing was traded here."); return; }
      const before = this.rows[row.i - 1], base = before ? before.c : row.o;
      const change = base > 0 ? (row.c / base - 1) * 100 : null;
      const parts = [element("b", {}, this.when(row))];
      for (const [name, value] of [["O", row.o], ["H", row.h], ["L", row.l], ["C", row.c]])
        parts.push(element("span", {}, element("i", {}, name), price(value)));
      if (row.v !== null) parts.push(element("span", {}, element("i", {}, "V"), quantity(row.v)));
      if (change !== null)
        parts.push(element("span", { class: change > 0 ? "up" : change < 0 ? "down" : "" }, (change > 0 ? "+" : "") + change.toFixed(2) + "%"));
      const group = (this.placed || []).find(each => each.marks.some(mark => mark.x === row.x));
      if (group && this.data.kind === "daily")
        parts.push(...group.marks.slice(0, 3).map(mark => element("span", { class: "chart-mark" }, mark.text)),
          ...(group.marks.length > 3 ? [element("span", {}, "and " + (group.marks.length - 3) + " more")] : []));
      this.legend.replaceChildren(...parts);
    }
  }

  for (const root of document.querySelectorAll("[data-chart]"))
    new Candles(root, JSON.parse(document.getElementById(root.dataset.chart).textContent));
})();
