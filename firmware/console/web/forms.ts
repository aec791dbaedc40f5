import { morph } from "./morph";

// slow is after how long an action is shown to be under way, with a way to cancel it.
const slow = 300;

// watchForms sends forms without leaving the page. The box answers with a page: the one that the form leads to, or that of the
// form with what went wrong, and either takes the place of this one's content. Forms with data-plain load a page as without script.
export function watchForms(): void {
  document.addEventListener("submit", (e) => {
    const form = e.target as HTMLFormElement;
    if (form.method !== "post" || "plain" in form.dataset || !("fetch" in window)) return;
    e.preventDefault();
    if (!form.dataset.busy) void send(form, e.submitter);
  });
}

async function send(form: HTMLFormElement, button: HTMLElement | null): Promise<void> {
  const fields = new FormData(form, button);
  let data: FormData | URLSearchParams = fields;
  if (form.enctype !== "multipart/form-data") {
    data = new URLSearchParams();
    for (const [k, v] of fields) if (typeof v === "string") data.append(k, v);
  }
  const stop = new AbortController();
  form.dataset.busy = "1";
  form.setAttribute("aria-busy", "true");
  button?.setAttribute("disabled", "");

  const began = Date.now();
  const row = document.createElement("p");
  row.className = "progress";
  row.dataset.mine = "";
  const text = document.createElement("span");
  text.setAttribute("role", "status");
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.textContent = "Cancel";
  cancel.onclick = () => stop.abort();
  row.append(text, cancel);
  const show = () => {
    if (!row.isConnected) form.append(row);
    text.textContent = `Working, ${Math.round((Date.now() - began) / 1000)} s`;
  };
  const first = setTimeout(show, slow);
  const tick = setInterval(() => row.isConnected && show(), 1000);

  try {
    const answer = await fetch(form.action, { method: "POST", body: data, signal: stop.signal, headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = page.querySelector("main");
    if (!main || page.body.className !== document.body.className) {
      // It leads out of the pages that are like this one, such as to a login.
      if (answer.redirected) location.assign(answer.url);
      else complain(main?.querySelector("[role=alert]")?.textContent ?? `The box answered ${answer.status}. Try again, or look at its log.`);
      return;
    }
    if (answer.ok) form.reset();
    settle();
    become(main, page, answer);
  } catch (err) {
    complain(
      stop.signal.aborted
        ? "Cancelled. The box may have done it already: look before you repeat it."
        : "The box did not answer. What you typed is still here: try again when it is live.",
    );
  } finally {
    settle();
  }

  function settle() {
    clearTimeout(first);
    clearInterval(tick);
    row.remove();
    delete form.dataset.busy;
    form.removeAttribute("aria-busy");
    button?.removeAttribute("disabled");
  }
}

// become makes this page the one that came as an answer.
function become(main: Element, page: Document, answer: Response): void {
  if (answer.redirected && new URL(answer.url).pathname !== location.pathname) {
    location.assign(answer.url); // another page has a stream of its own
    return;
  }
  for (const s of main.querySelectorAll("section[id], #messages")) {
    const old = document.getElementById(s.id);
    if (old) morph(old, s, true);
  }
  document.querySelector("#messages > *")?.scrollIntoView({ block: "nearest" });
}

export function complain(text: string): void {
  const p = document.createElement("p");
  p.className = "note bad";
  p.setAttribute("role", "alert");
  p.textContent = text;
  document.getElementById("messages")?.replaceChildren(p);
  p.scrollIntoView({ block: "nearest" });
}
