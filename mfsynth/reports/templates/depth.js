// Depth maps as the page carries them: `mfsynth/reports/depth_grid.py` writes what is read here.

const LAST_CODE = 4095;
const ASSUMED_FOV = 60;

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A grid of the page's data with its depth as numbers (0: none) and a camera, known or assumed. */
async function readDepth(grid) {
  const bytes = await inflated(grid.data);
  const { width, height } = grid;
  const count = width * height;
  const codes = new Uint16Array(count);
  const depth = new Float32Array(count);
  const step = Math.log(grid.far / grid.near) / (LAST_CODE - 1);
  for (let i = 0; i < count; i++) {
    const before = i % width ? codes[i - 1] : i ? codes[i - width] : 0;
    codes[i] = before + bytes[i] + 256 * bytes[count + i];
    depth[i] = codes[i] ? grid.near * Math.exp((codes[i] - 1) * step) : 0;
  }
  const focal = width / 2 / Math.tan((ASSUMED_FOV * Math.PI) / 360);
  const assumed = [focal, focal, (width - 1) / 2, (height - 1) / 2];
  return { ...grid, depth, k: grid.camera || assumed, isAssumed: !grid.camera };
}

/** Depth at a share of the colour scale, from 0, near, to 1, far: the scale is even in 1 / depth. */
function depthAt(map, share) {
  const [near, far] = map.colours;
  return 1 / (1 / near + share * (1 / far - 1 / near));
}

function depthText(map, depth) {
  if (!depth) return "no depth";
  return `${Number(depth.toPrecision(3))}${map.unit ? ` ${map.unit}` : ""}`;
}
