// The agent's page. A stream of events says when there is news, and the view is fetched
// again. A tab in the background listens to nothing.
import { once, refresh, start } from "./live.js";
import { LogView, follow } from "./log.js";
import { Charts, showFigures } from "./charts.js";

const base = document.querySelector("nav[data-base]")?.dataset.base ?? document.querySelector("form[data-base]")?.dataset.base ?? "";
const csrf = () => document.getElementById("foot")?.dataset.csrf ?? "";
const post = (path, body) => fetch(base + path, {
  method: "POST",
  headers: { "X-CSRF-Token": csrf(), ...(body && { "Content-Type": "application/json" }) },
  body: body && JSON.stringify(body),
});

function say(text) {
  const banner = document.getElementById("connection");
  if (!banner || banner.textContent === text && banner.hidden === !text) return;
  banner.hidden = !text;
  banner.textContent = text;
}

function saySoon(text) {
  say(text);
  setTimeout(() => document.getElementById("connection").textContent === text && say(""), 6000);
}

// What changes.
const look = once(async () => {
  try {
    if (!await refresh()) location.reload(); // which leads to the login
  } catch {
    lost();
  }
});

let away = null; // when the agent stopped answering
function lost() {
  away ??= new Date();
  // A moment's silence is not worth a word.
  if (Date.now() - away > 2500) say(`The agent has not answered since ${away.toLocaleTimeString()}; trying again`);
}

function found() {
  if (away) say("");
  away = null;
}

const charts = document.querySelector("[data-charts]") && new Charts(document.querySelector("[data-charts]"), base);
const hasGPUs = document.querySelector("[data-gpu]");

function listen() {
  let events, retry;
  const close = () => {
    clearTimeout(retry);
    events?.close();
    events = null;
  };
  const open = () => {
    close();
    events = new EventSource(`${base}/events${hasGPUs ? "?gpus=1" : ""}`);
    events.addEventListener("open", () => {
      found();
      look();
      charts?.load();
    });
    events.addEventListener("change", look);
    events.addEventListener("gpus", (event) => {
      const reading = JSON.parse(event.data);
      showFigures(reading);
      charts?.add(reading);
    });
    events.addEventListener("error", () => {
      lost();
      if (events?.readyState === EventSource.CLOSED) {
        look(); // it may be the login that has ended
        retry = setTimeout(open, 3000);
      }
    });
  };
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (!document.hidden) open();
}

// What is pressed.
let asking = null;
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const dialog = document.getElementById("ask");
  if (button.dataset.cancel) {
    asking = button.dataset.cancel;
    dialog.querySelector("#ask-job").textContent = button.dataset.name || asking;
    dialog.showModal();
  } else if ("no" in button.dataset) {
    dialog.close();
  } else if ("yes" in button.dataset) {
    dialog.close();
    say("Cancelling the job");
    const answer = await post(`/jobs/${encodeURIComponent(asking)}/cancel`).catch(() => null);
    const result = await answer?.json().catch(() => null);
    saySoon(result?.stopped ? "The job was cancelled" : result?.error ?? (answer?.status === 403 ? "The page was out of date; try again" : "The agent does not answer"));
    look();
  } else if ("logout" in button.dataset) {
    await post("/logout").catch(() => null);
    location.assign(base + "/login");
  }
});

document.getElementById("compare")?.addEventListener("submit", (event) => {
  if (event.target.querySelectorAll("input:checked").length === 2) return;
  event.preventDefault();
  saySoon("Tick two jobs to compare them");
});

const login = document.getElementById("login");
login?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = document.getElementById("login-said"), button = login.querySelector("button");
  said.hidden = true;
  button.disabled = true;
  const answer = await post("/login", { token: login.token.value }).catch(() => null);
  button.disabled = false;
  if (answer?.ok) {
    const next = new URL(login.dataset.next, location.origin);
    location.assign(next.origin === location.origin ? next.pathname + next.search : base + "/");
    return;
  }
  said.textContent = answer ? await answer.text() : "The agent does not answer.";
  said.hidden = false;
  login.token.select();
});

const log = document.querySelector("[data-log]");
if (log) follow(new LogView(log.querySelector("[data-logview]")), log.dataset.log);
start();
if (document.querySelector("nav[data-base]")) listen();
