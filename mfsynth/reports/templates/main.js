// Makes of a page that can be read one that can be worked with. Without scripts it stays readable.

const COPY = "copy command to reproduce it";
const COPIED_MS = 1500;

function addCopyButtons(place) {
  for (const command of place.querySelectorAll(".again")) {
    command.querySelector("button")?.remove();
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = COPY;
    const code = command.querySelector("code");
    button.addEventListener("click", async () => {
      button.textContent = (await copied(code.textContent)) ? "copied" : "can't copy here";
      setTimeout(() => (button.textContent = COPY), COPIED_MS);
    });
    command.append(button);
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages that came by http may not use the clipboard so.
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function offerSlots(lists) {
  for (const cell of document.querySelectorAll("[data-slot]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "choice";
    button.title = "show the pairs and rejects whose prompt took it";
    button.textContent = cell.textContent;
    button.addEventListener("click", () => {
      for (const list of lists) list.choose(cell.dataset.slot, cell.dataset.value);
      const first = lists.find((list) => list.shown.length) || lists[0];
      first?.section.scrollIntoView();
      first?.section.querySelector("select").focus({ preventScroll: true });
    });
    cell.replaceChildren(button);
  }
}

const data = JSON.parse(document.getElementById("data").textContent);
const viewer = new Viewer(document.getElementById("viewer"), data);
const lists = [];
for (const name of ["pairs", "rejects"]) {
  const section = document.getElementById(name);
  if (section?.querySelector(".cards")) {
    const open = (list, place) => viewer.open(list, place);
    lists.push(new List(section, data[name], data.scores, open));
  }
}
addCopyButtons(document);
offerSlots(lists);
document.documentElement.dataset.ready = "yes";
