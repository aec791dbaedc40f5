// What the console's pages do in a browser. Without it they can be read and used; with it they change while one looks, and
// forms do not lose what was typed.
import { follow } from "./live";
import { watchForms } from "./forms";
import { watchPasskeys } from "./passkey";

const events = document.body.dataset.events;
if (events) follow(events);
watchForms();
watchPasskeys();
