"use strict";

// What changes on a page is marked in it. An element with data-live is fetched
// again, from that address and by its id, at each event of data-on; a log, at
// each line. Events say only that there is news: what the news is comes from
// the server in one piece, so that an event that was missed loses nothing.

// once returns a function that runs work, and once more if it is called again
// meanwhile, but never twice at a time.
function once(work) {
  let running = false, again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await work();
    } catch (err) {
      console.warn(err); // the next event, or the next look, tries again
    }
    running = false;
    if (again) {
      again = false;
      run();
    }
  };
}

function refresher(element) {
  return once(async () => {
    const answer = await fetch(element.dataset.live);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(element.id);
    if (fresh && fresh.innerHTML !== element.innerHTML) element.innerHTML = fresh.innerHTML;
  });
}

function logReader(log) {
  let shown = Number(log.dataset.rows);
  return once(async () => {
    const answer = await fetch(`/api/v1/quicktest/${log.dataset.log}/logs`);
    if (!answer.ok) return;
    const { lines } = await answer.json();
    if (lines.length === shown) return;
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    log.append(lines.slice(shown).map((row) => row.line + "\n").join(""));
    shown = lines.length;
    if (atEnd) log.scrollTop = log.scrollHeight;
  });
}

const live = [...document.querySelectorAll("[data-live]")].map((element) => {
  return { on: element.dataset.on.split(" "), look: refresher(element) };
});
const log = document.querySelector("[data-log]");
if (log) {
  log.scrollTop = log.scrollHeight;
  live.push({ on: ["log", "status"], look: logReader(log) });
}

if (live.length > 0) {
  const of = document.querySelector("[data-of]");
  const events = new EventSource("/api/v1/events/stream" + (of ? "/" + of.dataset.of : ""));
  const lookAll = () => live.forEach((part) => part.look());
  for (const kind of ["log", "status", "agent_status"]) {
    events.addEventListener(kind, () => live.filter((part) => part.on.includes(kind)).forEach((part) => part.look()));
  }
  events.addEventListener("open", lookAll); // the stream says nothing of what was before it
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(lookAll, 5000); // an agent that falls silent makes no event
  lookAll();
}
