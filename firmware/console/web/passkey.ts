import { complain } from "./forms";

// watchPasskeys lets a browser that has passkeys make them and sign in with them (W3C Web Authentication). Buttons and forms for it have
// data-passkey, and are there only in such a browser.
export function watchPasskeys(): void {
  if (!("PublicKeyCredential" in window) || !("parseRequestOptionsFromJSON" in PublicKeyCredential)) return;
  document.documentElement.classList.add("passkeys");
  document.addEventListener("click", (e) => {
    const button = (e.target as Element).closest<HTMLElement>("button[data-passkey=sign-in]");
    if (button) void alone(button, () => signIn(button.dataset.next || "/"));
  });
  document.addEventListener("submit", (e) => {
    const form = (e.target as Element).closest<HTMLFormElement>("form[data-passkey=add]");
    if (!form) return;
    e.preventDefault();
    void alone(form, () => add(new FormData(form)));
  });
}

async function signIn(next: string): Promise<void> {
  const asked = await post("/api/v1/passkey/options", {});
  const key = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(asked) });
  await post("/api/v1/passkey/login", { credential: JSON.stringify(key) });
  location.assign(next);
}

async function add(data: FormData): Promise<void> {
  const csrf = String(data.get("csrf"));
  const asked = await post("/api/v1/passkeys/options", { csrf });
  const key = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(asked) });
  await post("/api/v1/passkeys/add", { csrf, name: String(data.get("name")), credential: JSON.stringify(key) });
  location.reload();
}

// post sends what programs send, and gives the answer; what went wrong is thrown.
async function post(path: string, fields: Record<string, string>): Promise<any> {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(fields), headers: { "Content-Type": "application/json" } });
  const said = await answer.json();
  if (answer.status === 202) throw new Error(said.waits);
  if (!answer.ok) throw new Error(said.error);
  return said;
}

// alone does one thing at a time, and says why it did not work.
async function alone(e: HTMLElement, what: () => Promise<void>): Promise<void> {
  if (e.dataset.busy) return;
  e.dataset.busy = "1";
  e.setAttribute("aria-busy", "true");
  try {
    await what();
  } catch (err) {
    complain((err as Error).name === "NotAllowedError" ? "No passkey was used: it was cancelled, took too long, or this device has none for this page." : (err as Error).message);
  } finally {
    delete e.dataset.busy;
    e.removeAttribute("aria-busy");
  }
}
