// Keeps the page live: one stream, parts of the page as they change; a hidden tab does not listen.
const live = document.getElementById("live");
const theme = document.getElementById("theme");
let stream = null;

function show(state) {
  live.dataset.state = state;
  live.lastElementChild.textContent = state === "on" ? "Live" : "Connecting";
}

// A change never closes what the reader has opened, and waits while text in the part is selected.
function replace(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  const selection = getSelection();
  if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) return;
  const opened = [...part.querySelectorAll("details")].map((each) => each.open);
  part.innerHTML = html;
  part.querySelectorAll("details").forEach((each, i) => (each.open = opened[i] ?? false));
}

function listen() {
  stream = new EventSource("/stream");
  stream.onopen = () => show("on");
  stream.onerror = () => {
    show("off");
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || listen(), 2000);
  };
  stream.onmessage = (event) => Object.entries(JSON.parse(event.data)).forEach(([id, html]) => replace(id, html));
}

document.addEventListener("visibilitychange", () => {
  stream?.close();
  if (!document.hidden) listen();
});

const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
theme.addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
});

live.hidden = theme.hidden = false;
show("off");
if (!document.hidden) listen();
