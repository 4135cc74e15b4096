// Sorting and filtering of the cards of a section.

/** What of a section's cards is shown, and in which order. */
class List {
  /**
   * @param section With cards, and a place for its controls.
   * @param cards Of the page's data, in the order of the section's articles.
   * @param scores Of the page's data.
   * @param onOpen Called with the place of a card, of those that are shown, that is to be looked at.
   */
  constructor(section, cards, scores, onOpen) {
    this.section = section;
    this.scores = scores;
    this.grid = section.querySelector(".cards");
    this.cards = cards.map((card, i) => ({ ...card, element: this.grid.children[i] }));
    this.shown = this.cards;
    for (const card of this.cards) {
      card.text = card.element.querySelector(".prompt").textContent.toLowerCase();
      card.element.querySelector(".open").addEventListener("click", (event) => {
        event.preventDefault();
        onOpen(this, this.shown.indexOf(card));
      });
    }
    this.controls();
  }

  controls() {
    const place = this.section.querySelector(".controls");
    place.hidden = false;
    this.order = select(place, "Sort by", [
      ["", "candidate"],
      ...this.scores.map((score) => [score.name, score.label]),
    ]);
    this.direction = select(place, "Order", [
      ["worst", "worst first"],
      ["best", "best first"],
    ]);
    const reasons = new Set(this.cards.flatMap((card) => card.reasons));
    this.reason = reasons.size
      ? select(place, "Reason", [["", "any"], ...[...reasons].sort().map((name) => [name, name])])
      : null;
    const slots = new Set(this.cards.flatMap((card) => Object.keys(card.slots)));
    if (slots.size) {
      this.slot = select(place, "Slot", [["", "any"], ...[...slots].map((name) => [name, name])]);
      this.value = select(place, "Value", [["", "any"]]);
      this.slot.addEventListener("change", () => this.offerValues());
    }
    this.score = select(place, "Score", [
      ["", "any"],
      ...this.scores.map((score) => [score.name, score.label]),
    ]);
    this.least = field(place, "at least", "number");
    this.most = field(place, "at most", "number");
    this.words = field(place, "Prompt has", "search");
    const all = document.createElement("button");
    all.type = "button";
    all.textContent = "Show all";
    all.addEventListener("click", () => this.clear());
    place.append(all);
    this.count = document.createElement("output");
    this.count.className = "count";
    place.append(this.count);
    place.addEventListener("input", () => this.update());
    this.update();
  }

  offerValues(chosen = "") {
    const values = new Set(this.cards.flatMap((card) => card.slots[this.slot.value] || []));
    fill(this.value, [["", "any"], ...[...values].sort().map((name) => [name, name])]);
    this.value.value = chosen;
    this.value.disabled = !this.slot.value;
  }

  /** Shows what took a value for a slot. */
  choose(slot, value) {
    this.clear();
    if (!this.slot) return;
    this.slot.value = slot;
    this.offerValues(value);
    this.update();
  }

  clear() {
    for (const control of this.section.querySelectorAll(".controls select")) {
      control.selectedIndex = 0;
    }
    for (const control of this.section.querySelectorAll(".controls input")) control.value = "";
    if (this.slot) this.offerValues();
    this.update();
  }

  update() {
    if (this.value) this.value.disabled = !this.slot.value;
    this.direction.disabled = !this.order.value;
    this.least.disabled = this.most.disabled = !this.score.value;
    this.shown = this.sorted(this.cards.filter((card) => this.passes(card)));
    for (const card of this.cards) card.element.hidden = true;
    for (const card of this.shown) card.element.hidden = false;
    this.grid.append(...this.shown.map((card) => card.element));
    this.count.textContent = `${this.shown.length} of ${this.cards.length} shown`;
  }

  passes(card) {
    if (this.reason?.value && !card.reasons.includes(this.reason.value)) return false;
    if (this.slot?.value) {
      const taken = card.slots[this.slot.value] || [];
      if (this.value.value ? !taken.includes(this.value.value) : !taken.length) return false;
    }
    if (this.score.value) {
      const value = card.scores[this.score.value] ?? NaN;
      if (this.least.value !== "" && !(value >= Number(this.least.value))) return false;
      if (this.most.value !== "" && !(value <= Number(this.most.value))) return false;
    }
    return card.text.includes(this.words.value.toLowerCase());
  }

  sorted(cards) {
    const score = this.scores.find((each) => each.name === this.order.value);
    if (!score) return cards;
    const sign = score.higher === (this.direction.value === "worst") ? 1 : -1;
    // Where the check abstained there is nothing to sort by: last in either order.
    const rank = (card) => card.scores[score.name] ?? NaN;
    return cards.sort((one, other) => {
      const [a, b] = [rank(one), rank(other)];
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b) || one.candidate - other.candidate;
    });
  }
}

function labelled(place, label, control) {
  const element = document.createElement("label");
  const name = document.createElement("span");
  name.textContent = label;
  element.append(name, control);
  place.append(element);
  return control;
}

function select(place, label, options) {
  const control = document.createElement("select");
  fill(control, options);
  return labelled(place, label, control);
}

function fill(control, options) {
  control.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

function field(place, label, type) {
  const control = document.createElement("input");
  control.type = type;
  if (type === "number") control.step = "any";
  return labelled(place, label, control);
}
