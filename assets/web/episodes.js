// What is known of an episode: a recorded one has all of its steps, a live one grows.

export function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
}
export const floats = (text) => new Float32Array(bytes(text));

/** Shared by both kinds; `value(key, step, i)` is element i of a row of rewards, observations or forces. */
class Episode {
  value(key, step, i) {
    const rows = this[key];
    return rows.data[step * rows.width + i];
  }

  /** Where link number `link` is at a step: an array, and from which place in it 7 numbers count. */
  pose(link, step) {
    const slot = this.slots ? this.slots.get(link) : link;
    return slot === undefined ? [this.still, 7 * link] : [this.poses.data, step * this.poses.width + 7 * slot];
  }

  /** Eye and target of a camera at a step (6). */
  camera(name, step) {
    const rows = this.cameras[name];
    const at = 6 * Math.min(step, rows.length / 6 - 1);
    return rows.subarray(at, at + 6);
  }

  /** The newest of changes [step, ...] that had happened at a step, or undefined. */
  goal(step) {
    return this.goals.findLast((change) => change[0] <= step)?.slice(1);
  }
}

export class Recorded extends Episode {
  constructor(said, widths) {
    super();
    const rows = (text, width) => ({ data: floats(text), width });
    Object.assign(this, said, {
      slots: new Map(said.moving.map((link, slot) => [link, slot])), still: floats(said.still),
      poses: rows(said.poses, 7 * said.moving.length), ended: true,
      cameras: Object.fromEntries(Object.entries(said.cameras).map(([name, text]) => [name, floats(text)])),
    });
    for (const key of ['rewards', 'observations', 'forces']) this[key] = rows(said[key], widths[key]);
    this.allRays = floats(said.rays);
    this.rayStarts = [0];
    for (const count of said.rayCounts) this.rayStarts.push(this.rayStarts.at(-1) + 3 * count);
  }

  sight(step) {
    return this.allRays.subarray(this.rayStarts[step] ?? 0, this.rayStarts[step + 1] ?? 0);
  }
}

/** Rows that come one by one; those that were missed repeat the one before. */
class Rows {
  constructor(width) {
    this.width = width;
    this.data = new Float32Array(width * 64);
    this.count = 0;
  }

  put(step, row) {
    if (this.width * (step + 1) > this.data.length) {
      const larger = new Float32Array(2 * this.width * (step + 1));
      larger.set(this.data);
      this.data = larger;
    }
    const before = this.count ? this.data.slice(this.width * (this.count - 1), this.width * this.count) : row;
    for (let i = this.count; i < step; i++) this.data.set(before, i * this.width);
    this.data.set(row, step * this.width);
    this.count = step + 1;
  }
}

export class Live extends Episode {
  constructor(said, widths) {
    super();
    Object.assign(this, said, { steps: 0, successAt: null, ended: false, colors: [], goals: [], metrics: {}, return: 0 });
    this.still = floats(said.still);
    this.poses = new Rows(this.still.length);
    this.fixed = said.cameras;
    this.following = {};
    this.seen = [];
    for (const key of ['rewards', 'observations', 'forces']) this[key] = new Rows(widths[key]);
  }

  /** Takes in what the simulation tells of one moment. */
  take(frame) {
    const pose = this.still.slice();
    const moved = floats(frame.poses);
    frame.links.forEach((link, i) => pose.set(moved.subarray(7 * i, 7 * i + 7), 7 * link));
    this.poses.put(frame.step, pose);
    for (const key of ['rewards', 'observations', 'forces']) this[key].put(frame.step, floats(frame[key]));
    for (const [name, row] of Object.entries(frame.cameras)) (this.following[name] ??= new Rows(6)).put(frame.step, row);
    this.seen.push([frame.step, floats(frame.rays)]);
    Object.assign(this, { steps: frame.step, successAt: frame.successAt, return: frame.return, ended: frame.ended });
  }

  camera(name, step) {
    const rows = this.following[name];
    return rows ? rows.data.subarray(6 * step, 6 * step + 6) : Float32Array.from(this.fixed[name]);
  }

  sight(step) {
    return this.seen.findLast((moment) => moment[0] <= step)?.[1] ?? new Float32Array(0);
  }
}
