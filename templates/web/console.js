// What the console does beyond its pages: they follow what happens, keys, times that stay true.
// Nothing is decided here, and nothing is shown that the server has not said.
"use strict";
(() => {
  const body = document.body;
  body.classList.add("scripted");

  // ---- times ----
  const units = (s) => {
    if (s < 60) return `${s}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m`;
    if (s < 86400) {
      const m = Math.floor((s % 3600) / 60);
      return m ? `${Math.floor(s / 3600)}h ${m}m` : `${Math.floor(s / 3600)}h`;
    }
    return `${Math.floor(s / 86400)}d`;
  };
  const tell = () => {
    for (const time of document.querySelectorAll("time[data-time]")) {
      const s = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
      const words = time.dataset.time === "ago" ? (s < 5 ? "just now" : `${units(s)} ago`) : s < 0 ? `in ${units(-s)}` : "over";
      if (time.textContent !== words) time.textContent = words;
    }
  };
  // A server whose clock stands elsewhere keeps its own words.
  const followsClock = () => {
    const last = [...document.querySelectorAll("time[data-time=ago]")].map((t) => Date.parse(t.dateTime));
    return last.every((at) => at < Date.now() + 60000);
  };
  setInterval(() => followsClock() && tell(), 10000);

  // ---- following ----
  const region = document.getElementById("live");
  const plain = (element) => element.outerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1");
  // As the server sent it: what a person opens or types is not in here.
  const sent = new WeakMap();
  // The revision that the buttons of each card decide.
  const revisions = new Map();
  // Whether it decides another revision than the buttons that stood here before, if there were any.
  const isAskedAnew = (card) => {
    const revision = card.querySelector(".acts input[name=revision]")?.value;
    const before = revisions.get(card.dataset.key);
    if (revision) revisions.set(card.dataset.key, revision);
    return Boolean(revision && before && revision !== before);
  };
  const learn = (list) => {
    for (const child of list.children) {
      const inner = child.matches("[data-list]") ? child : child.querySelector("[data-list]");
      if (inner) learn(inner);
      else {
        sent.set(child, plain(child));
        isAskedAnew(child);
      }
    }
  };
  // A press that was meant for what stood here a moment ago must not decide what took its place.
  const hold = (card) => {
    const buttons = [...card.querySelectorAll(".acts button:not([disabled])")];
    for (const button of buttons) button.disabled = true;
    setTimeout(() => {
      for (const button of buttons) button.disabled = false;
    }, 1000);
  };
  const busy = (element) => {
    const at = document.activeElement;
    return element.contains(at) && at.matches("textarea, input, select") && at.value !== at.defaultValue && !at.matches("select");
  };
  // Makes `old` show what `fresh` shows. What has not changed stays, with all that is open or typed in it.
  const merge = (old, fresh) => {
    const known = new Map([...old.children].filter((c) => c.dataset.key).map((c) => [c.dataset.key, c]));
    let place = old.firstElementChild;
    for (const child of [...fresh.children]) {
      const before = known.get(child.dataset.key);
      const list = child.matches("[data-list]") ? child : child.querySelector("[data-list]");
      const oldList = before && (before.matches("[data-list]") ? before : before.querySelector("[data-list]"));
      let now = before;
      if (before && list && oldList) {
        merge(oldList, list);
      } else if (before && sent.get(before) === plain(child)) {
        // stays
      } else {
        now = document.importNode(child, true);
        sent.set(now, plain(child));
        if (isAskedAnew(now)) {
          hold(now);
          say("A request has changed; look at it again before you decide.");
        }
        const held = before && before.contains(document.activeElement);
        if (before) {
          if (place === before) place = before.nextElementSibling;
          if (busy(before)) say("What you were writing on has changed; look at it again.");
          before.remove();
        }
        old.insertBefore(now, place);
        if (held) now.focus();
        known.delete(child.dataset.key);
        continue;
      }
      known.delete(child.dataset.key);
      if (now === place) place = place.nextElementSibling;
      else old.insertBefore(now, place);
    }
    for (const gone of known.values()) gone.remove();
    for (const rest of [...old.children]) if (!rest.dataset.key) rest.remove();
  };
  const say = (text) => {
    const main = document.getElementById("main");
    let note = document.getElementById("said");
    if (!note) {
      note = document.createElement("p");
      note.id = "said";
      note.className = "note bad";
      note.setAttribute("role", "status");
      main.prepend(note);
    }
    note.textContent = text;
  };
  let fetching = false;
  let again = false;
  // Who is not signed in any more follows nothing.
  let over = false;
  const refresh = async () => {
    if (fetching) {
      again = true;
      return;
    }
    fetching = true;
    again = false;
    let answer = null;
    let page = null;
    try {
      answer = await fetch(location.href, { headers: { "x-live": "1" }, credentials: "same-origin" });
      page = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      // The connection broke; what happened meanwhile must not be missed.
      setTimeout(refresh, 2000);
    }
    fetching = false;
    if (page && answer.status === 401) {
      over = true;
      rest();
      say("You are not signed in any more. Load this page again.");
      return;
    }
    const fresh = page && page.getElementById("live");
    if (fresh) {
      const end = document.documentElement;
      const atEnd = end.scrollHeight - end.scrollTop - end.clientHeight < 160;
      merge(region, fresh);
      document.title = page.title;
      const nav = document.querySelector(".top nav");
      const freshNav = page.querySelector(".top nav");
      if (nav && freshNav && nav.innerHTML !== freshNav.innerHTML) nav.replaceChildren(...document.importNode(freshNav, true).childNodes);
      if (atEnd && body.dataset.live.startsWith("/chat/") && document.querySelector(".composer")) scrollTo({ top: end.scrollHeight });
    }
    if (again) refresh();
  };
  let stream = null;
  const follow = () => {
    if (!region || !body.dataset.live || stream || over || document.hidden) return;
    stream = new EventSource(body.dataset.live);
    stream.addEventListener("listening", () => {
      body.classList.add("followed");
      refresh();
    });
    stream.addEventListener("changed", refresh);
    stream.addEventListener("ended", refresh);
    stream.addEventListener("error", () => {
      body.classList.remove("followed");
      if (stream && stream.readyState === EventSource.CLOSED) {
        stream = null;
        setTimeout(follow, 3000);
      }
    });
  };
  const rest = () => {
    if (stream) stream.close();
    stream = null;
  };
  if (region) learn(region);
  follow();
  // A page that nobody looks at holds no connection.
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", (event) => event.persisted && follow());

  // ---- one press is one request ----
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
    setTimeout(() => delete form.dataset.sent, 5000);
  });

  // ---- keys ----
  const items = () => [...document.querySelectorAll("[data-item]")];
  const here = () => document.activeElement.closest("[data-item]");
  const move = (by) => {
    const all = items();
    if (!all.length) return;
    const at = all.indexOf(here());
    const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
    all[next].focus({ focusVisible: true });
    all[next].scrollIntoView({ block: "nearest" });
  };
  // Leads to a control and never presses it: no single key decides anything.
  const act = (name, within) => {
    const control = within.querySelector(`[data-act=${name}]`);
    if (!control) return false;
    if (control.matches("details")) {
      control.open = true;
      const field = control.querySelector("textarea, input[type=text], select, button");
      if (field) field.focus();
    } else {
      control.focus({ focusVisible: true });
    }
    control.scrollIntoView({ block: "nearest" });
    return true;
  };
  const on = (name) => {
    const item = here() || items().find((each) => each.querySelector(`[data-act=${name}]`)) || items()[0];
    if (!item || act(name, item)) return;
    const link = item.querySelector("a[data-open]");
    if (link && item.matches("tr")) location.assign(`${link.href}#${name}`);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, textarea, select");
    if (field) {
      if (event.key === "Escape") field.blur();
      return;
    }
    const keys = document.getElementById("keys");
    switch (event.key) {
      case "j": move(1); break;
      case "k": move(-1); break;
      case "a": on("approve"); break;
      case "d": on("deny"); break;
      case "e": on("edit"); break;
      case "/": document.getElementById("message")?.focus(); break;
      case "?": keys && (keys.open ? keys.close() : keys.showModal()); break;
      case "Enter": {
        const item = event.target.matches("[data-item]") && event.target.querySelector("a[data-open]");
        if (!item) return;
        item.click();
        break;
      }
      default: return;
    }
    event.preventDefault();
  });
  // Ctrl-Enter sends what is being written.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.matches("textarea")) event.target.form.requestSubmit();
  });
  const wanted = location.hash.slice(1);
  if (["approve", "deny", "edit"].includes(wanted)) act(wanted, document);
})();
