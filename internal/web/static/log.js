// log.js shows a log of any length and content. Lines are text and never markup. They
// stand in blocks of some hundred, of which the browser lays out only those in sight
// (content-visibility), so 100,000 of them cost no more than a screenful.

const blockLines = 400;
const longest = 4000; // characters that are shown of a line
const keptLines = 200000; // the oldest go first, a block at a time
const keptChars = 48e6;
const trouble = /\b(?:\w*(?:Error|Exception)|error|ERROR|exception|Traceback|[Ff]atal|FATAL|panic|PANIC|[Ss]egmentation fault|[Oo]ut of memory|OOM|[Kk]illed|[Ff]ailed|FAILED|[Ff]ailure)\b/;
const escapes = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])?/g;
// Controls, and what turns the direction of text or is not seen at all.
const unseen = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

// clean returns a line as it can be shown: without escape sequences, and with what
// nobody sees by its number.
export function clean(line) {
  return line.replace(escapes, "").replace(unseen, (c) => `‹${c.charCodeAt(0).toString(16).padStart(4, "0").toUpperCase()}›`);
}

// A LogView shows a log in an element with the template "log".
export class LogView {
  constructor(root) {
    const part = (name) => root.querySelector(`[data-${name}]`);
    this.box = part("lines");
    this.parts = { find: part("find"), state: part("state"), said: part("said"), pause: part("pause"), errors: part("errors"), count: part("error-count") };
    this.blocks = []; // {element, lines, first, chars, size}
    this.total = 0; // lines, those that were dropped too
    this.dropped = 0;
    this.chars = 0;
    this.errors = []; // numbers of lines
    this.waiting = []; // what came since it was shown last
    this.paused = false;
    this.following = true;
    this.open = false; // whether the last line is a state that the next one replaces
    this.long = 0; // characters of the last line that are not shown
    this.matches = [];
    this.at = -1; // the match that is shown
    this.atError = -1;
    this.ended = "";
    this.flushing = false;
    this.flushed = -100; // when lines were shown last
    const on = (name, event, act) => part(name).addEventListener(event, act);
    on("find", "input", () => this.find());
    on("find", "keydown", (e) => {
      if (e.key === "Enter") this.step(e.shiftKey ? -1 : 1), e.preventDefault();
      if (e.key === "Escape") this.parts.find.value = "", this.find(), this.box.focus();
    });
    on("next", "click", () => this.step(1));
    on("previous", "click", () => this.step(-1));
    on("error-next", "click", () => this.stepError(1));
    on("error-previous", "click", () => this.stepError(-1));
    on("pause", "click", () => this.pause(!this.paused));
    on("end", "click", () => this.toEnd());
    this.box.addEventListener("scroll", () => { this.following = this.isAtEnd(); }, { passive: true });
    this.box.addEventListener("keydown", (e) => { // only while the log has the focus
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      const act = { "/": () => this.parts.find.focus(), n: () => this.step(1), N: () => this.step(-1), e: () => this.stepError(1), E: () => this.stepError(-1), p: () => this.pause(!this.paused), End: () => this.toEnd() }[e.key];
      if (act) act(), e.preventDefault();
    });
  }

  // add appends a line of a kind of package logstream; joins says that the line before
  // ended, though its kind was progress.
  add(line, kind = "output", joins = false) {
    this.waiting.push([line, kind, joins]);
    if (!this.flushing && !this.paused) {
      this.flushing = true;
      // In a flood ten times a second is as good as sixty, and costs a sixth.
      const soon = this.flushed + 100 - performance.now();
      setTimeout(() => requestAnimationFrame(() => this.flush()), Math.max(0, soon));
    }
    if (this.paused && this.waiting.length % 100 === 1) this.tell();
  }

  flush() {
    this.flushing = false;
    if (this.paused) return;
    const follow = this.following;
    const touched = new Set();
    const began = performance.now();
    let n = 0;
    for (; n < this.waiting.length; n++) {
      if (n % 1000 === 999 && performance.now() - began > 12) break; // the rest in the next frame
      this.place(this.waiting[n], touched);
    }
    this.waiting.splice(0, n);
    for (const block of touched) this.draw(block);
    this.flushed = performance.now();
    this.drop();
    if (follow) this.box.scrollTop = this.box.scrollHeight;
    if (this.waiting.length) {
      this.flushing = true;
      requestAnimationFrame(() => this.flush());
    } else if (this.parts.find.value) {
      this.search();
    }
    this.tell();
  }

  place([raw, kind, ended], touched) {
    const continues = this.continued;
    this.continued = kind === "continued";
    if (continues) { // a line of many parts: only its beginning is shown
      this.long += raw.length;
      const block = this.blocks.at(-1);
      block.lines[block.lines.length - 1] = this.head + ` … ${this.long.toLocaleString()} more characters`;
      touched.add(block);
      return;
    }
    let line = clean(raw.length > 4 * longest ? raw.slice(0, 4 * longest) : raw);
    this.long = Math.max(0, raw.length - longest);
    if (line.length > longest) line = line.slice(0, longest);
    this.head = line;
    if (this.long) line += ` … ${this.long.toLocaleString()} more characters`;
    if (kind === "note" || kind === "gap") line = "▸ " + line;
    let block = this.blocks.at(-1);
    if (this.open && !ended && block) {
      this.chars += line.length - block.lines.at(-1).length;
      if (this.errors.at(-1) === this.total - 1) this.errors.pop();
      block.lines[block.lines.length - 1] = line;
    } else {
      if (!block || block.lines.length >= blockLines || block.chars > 2e5) {
        block = { lines: [], first: this.total, chars: 0, element: document.createElement("div") };
        block.element.append("");
        this.blocks.push(block);
      }
      block.lines.push(line);
      block.chars += line.length;
      this.chars += line.length;
      this.total++;
    }
    this.open = kind === "progress";
    if (trouble.test(line)) this.errors.push(this.total - 1);
    touched.add(block);
  }

  draw(block) {
    block.element.firstChild.data = block.lines.join("\n") + "\n";
    if (!block.element.parentNode) this.box.append(block.element);
  }

  drop() {
    while (this.blocks.length > 1 && (this.total - this.dropped > keptLines || this.chars > keptChars)) {
      const oldest = this.blocks.shift();
      this.dropped += oldest.lines.length;
      this.chars -= oldest.chars;
      oldest.element.remove();
    }
    while (this.errors[0] < this.dropped) this.errors.shift();
  }

  tell() {
    const lines = (n) => `${n.toLocaleString()} line${n === 1 ? "" : "s"}`;
    let text = lines(this.total);
    if (this.dropped) text += `, the first ${this.dropped.toLocaleString()} not shown`;
    if (this.paused && this.waiting.length) text += `, ${this.waiting.length.toLocaleString()} more since the pause`;
    text += this.ended ? ". " + this.ended : this.paused ? ". Paused" : this.trouble ? ". " + this.trouble : "";
    if (this.parts.state.textContent !== text) this.parts.state.textContent = text;
    this.parts.errors.hidden = this.errors.length === 0;
    this.parts.count.textContent = this.atError >= 0 ? `error ${this.atError + 1}/${this.errors.length}` : this.errors.length === 1 ? "1 error" : `${this.errors.length.toLocaleString()} errors`;
  }

  // say tells a screen reader what a button did.
  say(text) { this.parts.said.textContent = text; }

  // finish says how the log ended; interrupt why nothing comes, "" if it does again.
  finish(text) { this.ended = text; this.tell(); }
  interrupt(text) { this.trouble = text; this.tell(); }

  isAtEnd() { return this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 8; }

  pause(paused) {
    this.paused = paused;
    this.parts.pause.setAttribute("aria-pressed", paused);
    this.parts.pause.textContent = paused ? "Resume" : "Pause";
    this.tell();
    if (!paused && this.waiting.length) this.flush();
  }

  toEnd() {
    this.following = true;
    this.box.scrollTop = this.box.scrollHeight;
    requestAnimationFrame(() => { this.box.scrollTop = this.box.scrollHeight; }); // blocks that came into sight have their real height now
  }

  find() {
    this.at = -1;
    this.search();
    this.step(-1, true);
  }

  // search finds the lines with the text of the field, in any case.
  search() {
    const wanted = this.parts.find.value.toLowerCase();
    this.matches = [];
    if (!wanted) return;
    for (const block of this.blocks) {
      block.lines.forEach((line, i) => {
        if (line.toLowerCase().includes(wanted)) this.matches.push(block.first + i);
      });
    }
  }

  step(by, silent) {
    const wanted = this.parts.find.value;
    if (!this.matches.length) {
      this.mark(null);
      this.say(wanted ? "No match" : "");
      return;
    }
    this.at = this.at < 0 && by < 0 ? this.matches.length - 1 : (this.at + by + this.matches.length) % this.matches.length;
    this.show(this.matches[this.at], wanted);
    this.say(`Match ${this.at + 1} of ${this.matches.length.toLocaleString()}` + (silent ? "" : ", line " + (this.matches[this.at] + 1).toLocaleString()));
  }

  stepError(by) {
    const n = this.errors.length;
    if (!n) return;
    this.atError = this.atError < 0 ? (by < 0 ? n - 1 : 0) : (this.atError + by + n) % n;
    this.show(this.errors[this.atError], "");
    this.tell();
    this.say(`Error ${this.atError + 1} of ${n}, line ${(this.errors[this.atError] + 1).toLocaleString()}`);
  }

  // show scrolls to a line and marks a text in it, or all of it.
  show(number, wanted) {
    const block = this.blocks.findLast((b) => b.first <= number);
    if (!block) return;
    const line = block.lines[number - block.first];
    let from = 0;
    for (let i = 0; i < number - block.first; i++) from += block.lines[i].length + 1;
    const found = wanted ? line.toLowerCase().indexOf(wanted.toLowerCase()) : 0;
    const range = document.createRange();
    range.setStart(block.element.firstChild, from + Math.max(found, 0));
    range.setEnd(block.element.firstChild, from + (found >= 0 && wanted ? Math.min(found + wanted.length, line.length) : line.length));
    this.following = false;
    block.element.scrollIntoView({ block: "nearest" }); // it has a real height from here on
    // Blocks that come into sight get their real height in the frames that follow.
    let frames = 0;
    const settle = () => {
      const at = range.getBoundingClientRect(), box = this.box.getBoundingClientRect();
      const off = at.top - box.top - this.box.clientHeight / 3;
      if (Math.abs(off) > 1) this.box.scrollTop += off;
      if (++frames < 6) requestAnimationFrame(settle);
    };
    settle();
    this.mark(range);
  }

  mark(range) {
    if (!globalThis.CSS?.highlights) return; // it is scrolled to all the same
    if (range) CSS.highlights.set("found", new Highlight(range));
    else CSS.highlights.delete("found");
  }
}

// follow shows a stream of events of package logstream, and goes on with it after an
// outage.
export function follow(view, url, after) {
  let last = after ?? -1, source, timer, over = false, bar = false;
  const parse = (event) => {
    try {
      return JSON.parse(event.data);
    } catch {
      return { line: event.data };
    }
  };
  const open = () => {
    source = new EventSource(last >= 0 ? `${url}?after=${last}` : url);
    source.addEventListener("open", () => view.interrupt(""));
    source.addEventListener("log", (event) => {
      const id = Number(event.lastEventId), record = parse(event);
      // A number that is left out is a state that ended as it was shown.
      view.add(String(record.line), record.kind, bar && id > last + 1);
      bar = record.kind === "progress";
      last = id;
    });
    source.addEventListener("end", (event) => {
      const end = parse(event);
      over = true;
      source.close();
      view.finish(end.error ? `The job ${end.status}: ${end.error}` : `The job ${end.status}`);
    });
    source.addEventListener("error", () => {
      if (over) return;
      view.interrupt("The agent does not answer; trying again");
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries by itself
      clearTimeout(timer);
      timer = setTimeout(open, 2000);
    });
  };
  const close = () => {
    clearTimeout(timer);
    source?.close();
  };
  // A tab in the background takes no connection, and goes on where it was.
  document.addEventListener("visibilitychange", () => {
    close();
    if (!document.hidden && !over) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && !over && open());
  if (!document.hidden) open();
}
