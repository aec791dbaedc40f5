"use strict";
(() => {
  const live = document.getElementById("live");
  const say = (text) => { if (live.textContent !== text) live.textContent = text; };
  const stream = new EventSource("/events");
  stream.addEventListener("sections", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) {
      const section = document.getElementById(id);
      if (section) section.innerHTML = html;
    }
    say("live");
  });
  stream.onopen = () => say("live");
  stream.onerror = () => say("not live: the box does not answer");
})();
