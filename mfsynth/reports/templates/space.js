// A pair as points in space, drawn without WebGL: a few thousand of them are quick enough.

const TURN = 0.12;

class Space {
  /**
   * @param canvas To draw on; turned by drag and arrow keys, nearer by the wheel, + and -.
   * @param map Of `readDepth`.
   * @param colours RGBA of each of its pixels.
   */
  constructor(canvas, map, colours) {
    this.canvas = canvas;
    this.points = pointsOf(map, colours);
    this.pixel = Math.max(1, this.points.focal);
    this.reset();
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = [event.clientX, event.clientY];
    };
    canvas.onpointerup = () => (this.last = null);
    canvas.onpointercancel = canvas.onpointerup;
    canvas.onpointermove = (event) => {
      if (!this.last) return;
      const [x, y] = this.last;
      this.last = [event.clientX, event.clientY];
      this.turn((event.clientX - x) / 150, (event.clientY - y) / 150);
    };
    canvas.onwheel = (event) => {
      event.preventDefault();
      this.approach(Math.exp(-event.deltaY / 500));
    };
    canvas.onkeydown = (event) => {
      const step = {
        ArrowLeft: [-TURN, 0],
        ArrowRight: [TURN, 0],
        ArrowUp: [0, -TURN],
        ArrowDown: [0, TURN],
      }[event.key];
      if (step) this.turn(...step);
      else if (event.key === "+" || event.key === "=") this.approach(1.2);
      else if (event.key === "-") this.approach(1 / 1.2);
      else if (event.key === "0") this.reset();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
  }

  reset() {
    this.yaw = 0.35;
    this.pitch = -0.25;
    this.zoom = 1;
    this.draw();
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.draw();
  }

  approach(factor) {
    this.zoom = Math.max(0.3, Math.min(8, this.zoom * factor));
    this.draw();
  }

  draw() {
    const { canvas, points } = this;
    const { width, height } = canvas;
    const image = new ImageData(width, height);
    const nearest = new Float32Array(width * height).fill(Infinity);
    const [sinY, cosY] = [Math.sin(this.yaw), Math.cos(this.yaw)];
    const [sinP, cosP] = [Math.sin(this.pitch), Math.cos(this.pitch)];
    // From where the camera was, what it saw fills the canvas.
    const focal = (points.focal / points.side) * Math.min(width, height) * this.zoom;
    for (let i = 0; i < points.count; i++) {
      const [x, y, z] = [points.x[i], points.y[i], points.z[i] - points.centre];
      const right = cosY * x + sinY * z;
      const away = cosY * z - sinY * x;
      const lower = cosP * y - sinP * away;
      const distance = cosP * away + sinP * y + points.centre;
      if (distance <= 0.05 * points.centre) continue;
      const column = Math.round(width / 2 + (focal * right) / distance);
      const row = Math.round(height / 2 + (focal * lower) / distance);
      // As large as its pixel was, so that a surface has no holes from the camera's place.
      const size = Math.ceil((focal * points.z[i]) / points.focal / distance) + 1;
      for (let v = row - (size >> 1); v < row - (size >> 1) + size; v++) {
        if (v < 0 || v >= height) continue;
        for (let u = column - (size >> 1); u < column - (size >> 1) + size; u++) {
          const at = v * width + u;
          if (u < 0 || u >= width || nearest[at] <= distance) continue;
          nearest[at] = distance;
          image.data.set(points.colours.subarray(4 * i, 4 * i + 4), 4 * at);
        }
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

function pointsOf(map, rgba) {
  const [fx, fy, cx, cy] = map.k;
  const seen = [...map.depth.keys()].filter((i) => map.depth[i]);
  const z = Float32Array.from(seen, (i) => map.depth[i]);
  const sorted = z.slice().sort();
  const colours = new Uint8ClampedArray(4 * seen.length);
  seen.forEach((i, place) => colours.set(rgba.subarray(4 * i, 4 * i + 4), 4 * place));
  return {
    count: seen.length,
    x: Float32Array.from(seen, (i, place) => ((i % map.width) - cx) * (z[place] / fx)),
    y: Float32Array.from(seen, (i, place) => (Math.floor(i / map.width) - cy) * (z[place] / fy)),
    z,
    colours,
    centre: sorted[sorted.length >> 1] || 1,
    focal: fx,
    side: Math.max(map.width, map.height),
  };
}
