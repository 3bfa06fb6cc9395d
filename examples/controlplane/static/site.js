// Events say only that there is news: what the news is comes from the server in one
// piece, so that an event that was missed loses nothing.
import { once, refresh, start } from "./live.js";
import { LogView } from "./log.js";

const looks = { page: once(() => refresh().catch(console.warn)) }; // the next event tries again
const test = document.querySelector("[data-test]")?.dataset.test;
if (test) {
  const view = new LogView(document.querySelector("[data-logview]"));
  let shown = 0;
  looks.log = once(async () => {
    const answer = await fetch(`/api/v1/quicktest/${test}/logs`);
    if (!answer.ok) return;
    const { lines } = await answer.json();
    for (const row of lines.slice(shown)) view.add(row.line);
    shown = lines.length;
    view.tell();
  });
}
start();
if (document.querySelector("[data-live]")) {
  const events = new EventSource("/api/v1/events/stream" + (test ? "/" + test : ""));
  const lookAll = () => Object.values(looks).forEach((look) => look());
  events.addEventListener("log", () => looks.log?.());
  for (const kind of ["status", "agent_status", "open"]) events.addEventListener(kind, lookAll); // the stream says nothing of what was before it
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(lookAll, 5000); // an agent that falls silent makes no event
  lookAll();
}
