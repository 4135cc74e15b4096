// A pair, large: image, depth and normals with one zoom, and its points in space.

const MOST_ZOOM = 16;

class Viewer {
  constructor(dialog, data) {
    this.dialog = dialog;
    this.data = data;
    const named = (name) => dialog.querySelector(`[data-part="${name}"]`);
    this.parts = Object.fromEntries(
      [...dialog.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]),
    );
    this.windows = [...dialog.querySelectorAll(".window")];
    named("previous").addEventListener("click", () => this.step(-1));
    named("next").addEventListener("click", () => this.step(1));
    named("closer").addEventListener("click", () => this.zoomBy(2));
    named("farther").addEventListener("click", () => this.zoomBy(0.5));
    named("whole").addEventListener("click", () => this.whole());
    named("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("keydown", (event) => this.key(event));
    dialog.addEventListener("close", () => this.opener?.focus());
    for (const pane of this.windows) this.follow(pane);
  }

  /** Opens the dialog with a card of those that a list shows. */
  open(list, place) {
    this.list = list;
    this.place = place;
    this.opener = list.shown[place].element.querySelector(".open");
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.dialog.focus();
    }
    this.show(list.shown[place]);
    // A button that can't be used any more hears no keys.
    if (document.activeElement.disabled) this.dialog.focus();
  }

  step(by) {
    const place = this.place + by;
    if (this.list.shown[place]) this.open(this.list, place);
  }

  async show(card) {
    this.card = card;
    this.map = null;
    const { parts } = this;
    history.replaceState(null, "", `#${card.element.id}`);
    parts.title.textContent = `Candidate ${card.candidate}`;
    parts.place.textContent = `${this.place + 1} of ${this.list.shown.length}`;
    parts.previous.disabled = this.place === 0;
    parts.next.disabled = this.place === this.list.shown.length - 1;
    const [rgb, coloured] = card.element.querySelectorAll(".images img");
    parts.rgb.replaceChildren(...(rgb ? [rgb.cloneNode()] : []));
    parts.rgbName.textContent = coloured || !rgb ? "image" : "thumbnail";
    parts.body.replaceChildren(card.element.querySelector(".body").cloneNode(true));
    addCopyButtons(parts.body);
    parts.shownSize.textContent = card.element.dataset.size || "";
    const hasDepth = Boolean(card.depth);
    for (const name of ["depthPane", "normalsPane", "spacePane", "scale", "legend"]) {
      parts[name].hidden = !hasDepth;
    }
    parts.panes.classList.toggle("alone", !hasDepth);
    this.whole();
    parts.reading.textContent = hasDepth ? "Point at a pixel to read its depth." : "";
    if (!hasDepth) return;
    let map;
    try {
      map = await readDepth(card.depth);
      await rgb.decode();
    } catch {
      parts.reading.textContent = "This browser can't read the depth in this page.";
      return;
    }
    if (this.card === card) this.draw(map, rgb);
  }

  draw(map, rgb) {
    const { parts, data } = this;
    this.map = map;
    parts.depth.replaceChildren(canvasOf(colouredDepth(map, data)));
    parts.normals.replaceChildren(canvasOf(colouredNormals(map, data)));
    const small = canvasOf(new ImageData(map.width, map.height)).getContext("2d");
    small.drawImage(rgb, 0, 0, map.width, map.height);
    const colours = small.getImageData(0, 0, map.width, map.height).data;
    this.space = new Space(parts.space, map, colours);
    parts.assumed.textContent = map.isAssumed
      ? ` The camera is not known: normals and space assume a view ${ASSUMED_FOV}° wide.`
      : "";
    this.drawScale(map);
    this.dialog.dataset.drawn = this.card.id;
  }

  drawScale(map) {
    const table = paletteOf(this.data);
    const strip = new ImageData(table.length / 3, 1);
    for (let i = 0; i < strip.width; i++) {
      strip.data.set([...table.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    }
    this.parts.strip.replaceChildren(canvasOf(strip));
    this.parts.ticks.replaceChildren(
      ...[0, 0.25, 0.5, 0.75, 1].map((share) => {
        const tick = document.createElement("span");
        tick.textContent = depthText(map, depthAt(map, share));
        return tick;
      }),
    );
    this.parts.unit.textContent = map.unit
      ? "depth in metres"
      : "depth is relative: its unit means nothing";
  }

  // Zoom and place are those of all panes: x and y in widths and heights of the whole picture.

  whole() {
    this.zoom = 1;
    this.move(0, 0);
  }

  zoomBy(factor, x = 0.5, y = 0.5) {
    const zoom = Math.max(1, Math.min(MOST_ZOOM, this.zoom * factor));
    const [left, top] = [(x - this.x) / this.zoom, (y - this.y) / this.zoom];
    this.zoom = zoom;
    this.move(x - left * zoom, y - top * zoom);
  }

  move(x, y) {
    const least = 1 - this.zoom;
    this.x = Math.max(least, Math.min(0, x));
    this.y = Math.max(least, Math.min(0, y));
    for (const pane of this.windows) {
      pane.querySelector(".sheet").style.transform =
        `translate(${100 * this.x}%, ${100 * this.y}%) scale(${this.zoom})`;
      pane.querySelector(".cross").hidden = true;
    }
    this.parts.zoomed.textContent = `${this.zoom.toFixed(this.zoom < 10 ? 1 : 0)}×`;
    this.parts.farther.disabled = this.zoom === 1;
    this.parts.closer.disabled = this.zoom === MOST_ZOOM;
  }

  follow(pane) {
    const place = (event) => {
      const box = pane.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    let last = null;
    pane.addEventListener("pointerdown", (event) => {
      pane.setPointerCapture(event.pointerId);
      last = place(event);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      pane.addEventListener(end, () => (last = null));
    }
    pane.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (last && this.zoom > 1) {
        this.move(this.x + x - last[0], this.y + y - last[1]);
        last = [x, y];
      } else {
        this.read(x, y);
      }
    });
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 400), ...place(event));
    });
  }

  /** Marks a place in all panes, and says how deep it is there. */
  read(x, y) {
    if (!this.map) return;
    for (const pane of this.windows) {
      const cross = pane.querySelector(".cross");
      cross.hidden = false;
      cross.style.left = `${100 * x}%`;
      cross.style.top = `${100 * y}%`;
    }
    const { width, height, depth } = this.map;
    const column = Math.max(0, Math.min(width - 1, Math.floor(((x - this.x) / this.zoom) * width)));
    const row = Math.max(0, Math.min(height - 1, Math.floor(((y - this.y) / this.zoom) * height)));
    const found = depthText(this.map, depth[row * width + column]);
    this.parts.reading.textContent = `column ${column}, row ${row} of ${width} × ${height}: ${found}`;
  }

  key(event) {
    const moves = {
      ArrowLeft: [0.25, 0],
      ArrowRight: [-0.25, 0],
      ArrowUp: [0, 0.25],
      ArrowDown: [0, -0.25],
    };
    if (event.shiftKey && moves[event.key]) {
      const [x, y] = moves[event.key];
      this.move(this.x + x, this.y + y);
    } else if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "+" || event.key === "=") this.zoomBy(2);
    else if (event.key === "-") this.zoomBy(0.5);
    else if (event.key === "0") this.whole();
    else return;
    event.preventDefault();
  }
}

function canvasOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
