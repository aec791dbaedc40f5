import { morph } from "./morph";

// hiddenMax is how long a page that nobody sees keeps its stream: browsers have but six connections to a box.
const hiddenMax = 5_000;
// again is how long to wait after the box refused a stream.
const again = 10_000;

// follow keeps the page what the box says it is, and tells how live that is.
export function follow(url: string): void {
  const live = document.getElementById("live");
  const own = document.querySelector<HTMLScriptElement>("script[src]")?.getAttribute("src");
  const waiting = new Map<string, string>(); // sections in which the reader has text selected
  let stream: EventSource | null = null;
  let timer = 0;

  const say = (state: string, text: string) => {
    if (!live || live.dataset.state === state) return;
    live.dataset.state = state;
    live.textContent = text;
  };
  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";

  const show = (id: string, html: string) => {
    const section = document.getElementById(id);
    if (!section) return;
    const selection = document.getSelection();
    if (selection && !selection.isCollapsed && section.contains(selection.anchorNode)) {
      waiting.set(id, html);
      return;
    }
    waiting.delete(id);
    // A parsed document runs no scripts, and its text was escaped by the box.
    morph(section, new DOMParser().parseFromString("<body>" + html, "text/html").body);
  };
  document.addEventListener("selectionchange", () => {
    if (waiting.size && document.getSelection()?.isCollapsed) for (const [id, html] of waiting) show(id, html);
  });

  const stop = () => {
    stream?.close();
    stream = null;
    clearTimeout(timer);
  };
  const start = () => {
    stop();
    const s = (stream = new EventSource(url));
    s.addEventListener("hello", (e) => {
      if (JSON.parse(e.data) !== own) location.reload(); // the box has other firmware now
    });
    s.addEventListener("sections", (e) => {
      for (const [id, html] of Object.entries<string>(JSON.parse(e.data))) show(id, html);
      say("ok", "Live");
    });
    s.onopen = () => say("ok", "Live");
    s.onerror = () => {
      if (s !== stream) return;
      say("lost", "Not live since " + clock() + ": the box does not answer");
      if (s.readyState !== EventSource.CLOSED) return; // it comes back by itself
      stop();
      fetch(url, { method: "HEAD" }).then(refused, () => {
        timer = setTimeout(start, again);
      });
    };
  };
  const refused = (answer: Response) => {
    switch (answer.status) {
      case 401:
        say("out", "Not live: you are logged out. Load the page again to log in");
        return;
      case 403:
        say("out", "Not live: you may not see this any more");
        return;
      case 404:
        say("out", "Not live: this is not there any more");
        return;
      case 503:
        say("full", "Not live: the box has too many open pages");
    }
    timer = setTimeout(start, again);
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) {
      if (!stream) start();
    } else if (stream) {
      timer = setTimeout(() => {
        stop();
        say("", "");
      }, hiddenMax);
    }
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", () => {
    if (!stream && !document.hidden) start();
  });
  start();
}
