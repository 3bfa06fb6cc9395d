// live.js renews the parts of a page that change, which are marked with data-live and
// have an id. They are fetched again with the page itself, and only what differs in them
// is touched: the focus, a selection and what was opened stay.

// once returns a function that runs work, and once more if it is called again meanwhile,
// but never twice at a time.
export function once(work) {
  let running = false, again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
    } finally {
      running = false;
      if (again) {
        again = false;
        run();
      }
    }
  };
}

// morph makes the children of now what those of next are.
export function morph(now, next) {
  let old = now.firstChild;
  for (let fresh = next.firstChild; fresh;) {
    const following = fresh.nextSibling;
    if (old && fresh.id && old.id !== fresh.id) { // a row moved, or went
      const same = [...now.children].find((child) => child.id === fresh.id);
      if (same) {
        now.insertBefore(same, old);
        old = same;
      }
    }
    if (!old) {
      now.append(fresh);
    } else if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      now.insertBefore(fresh, old);
    } else {
      update(old, fresh);
      old = old.nextSibling;
    }
    fresh = following;
  }
  while (old) {
    const rest = old.nextSibling;
    old.remove();
    old = rest;
  }
}

function update(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-keep")) return; // a script's own
  const unchanged = ["datetime", "data-since"].some((name) => fresh.hasAttribute(name)) && old.getAttribute("datetime") === fresh.getAttribute("datetime");
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "title") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (!unchanged) morph(old, fresh); // times are shown by showTimes
}

// refresh fetches the page again and renews its parts. It returns whether it was served:
// false if the caller has to log in.
export async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected || answer.status === 401) return false;
  if (!answer.ok && answer.status !== 404) throw new Error(`the page was answered with ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (fresh) morph(part, fresh);
  }
  clock(page);
  showTimes();
  return true;
}

let ahead = 0; // of the server's clock, in ms

function clock(page) {
  const now = page.querySelector("[data-now]")?.dataset.now;
  if (now) ahead = Number(now) - Date.now();
}

export const serverNow = () => Date.now() + ahead;

export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

// showTimes writes times in the reader's zone, and how long ago what goes on began.
export function showTimes() {
  for (const e of document.querySelectorAll("time[datetime]")) {
    const at = new Date(e.dateTime);
    if (isNaN(at)) continue;
    let text = "since" in e.dataset ? span((serverNow() - at) / 1000) : (at.toDateString() === new Date().toDateString() ? time : day).format(at);
    if (e.dataset.since === "ago") text += " ago";
    if (e.textContent !== text) e.textContent = text;
    if ("since" in e.dataset && !e.title) e.title = day.format(at);
  }
}

// start keeps the times on the page right.
export function start() {
  clock(document);
  showTimes();
  setInterval(() => document.hidden || showTimes(), 1000);
}
