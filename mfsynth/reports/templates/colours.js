// Pictures of depth maps: their colours, and the normals of what they show.

const JUMP = 0.03;
let palette = null;

/** RGB of the colour map from near to far, three bytes each. */
function paletteOf(data) {
  palette ||= Uint8Array.from(atob(data.palette), (letter) => letter.charCodeAt(0));
  return palette;
}

function picture(map, colour) {
  const image = new ImageData(map.width, map.height);
  for (let i = 0; i < map.depth.length; i++) {
    const [red, green, blue] = colour(i);
    image.data.set([red, green, blue, 255], 4 * i);
  }
  return image;
}

/** A depth map in the colours that all depth of the page has. */
function colouredDepth(map, data) {
  const table = paletteOf(data);
  const last = table.length / 3 - 1;
  const [near, far] = map.colours;
  const isFlat = far <= near * (1 + 1e-6);
  return picture(map, (i) => {
    const depth = map.depth[i];
    if (!depth) return data.invalid;
    const share = isFlat ? 0.5 : (1 / near - 1 / depth) / (1 / near - 1 / far);
    const at = 3 * Math.round(Math.min(1, Math.max(0, share)) * last);
    return table.subarray(at, at + 3);
  });
}

/**
 * Normals as colours: red to the right, green up, blue towards the camera.
 *
 * A plane's inverse depth is linear in the pixel's place, so its slopes over three by three pixels
 * give the normal. None is shown where a pixel has no depth, or depth jumps.
 */
function colouredNormals(map, data) {
  const { width, height, depth } = map;
  const [fx, fy, cx, cy] = map.k;
  const bends = (i, step) => {
    const middle = 1 / depth[i];
    return Math.abs(1 / depth[i - step] + 1 / depth[i + step] - 2 * middle) > JUMP * middle;
  };
  return picture(map, (i) => {
    const column = i % width;
    const row = (i - column) / width;
    if (!column || !row || column === width - 1 || row === height - 1) return data.invalid;
    let mean = 0;
    let across = 0;
    let down = 0;
    for (let y = -1; y <= 1; y++) {
      for (let x = -1; x <= 1; x++) {
        const value = depth[i + y * width + x];
        if (!value) return data.invalid;
        mean += 1 / value / 9;
        across += x / value / 6;
        down += y / value / 6;
      }
    }
    for (const line of [-1, 0, 1]) {
      if (bends(i + line * width, 1) || bends(i + line, width)) return data.invalid;
    }
    across *= fx;
    down *= fy;
    const forward = mean - (across * (column - cx)) / fx - (down * (row - cy)) / fy;
    const length = Math.hypot(across, down, forward);
    return [-across, down, forward].map((part) => 127.5 * (1 + part / length));
  });
}
