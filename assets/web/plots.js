// Curves of what is shown, in step with it: reward terms, forces, observations.

export const LINES = ['#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#17becf'];
const MOST_VALUES = 3; // that are written over a curve

export class Plots {
  /** Fills `place`; `onSeek` is told a share of the time axis on which somebody clicked. */
  constructor(recording, place, element, onSeek) {
    Object.assign(this, { recording, place, element, onSeek, plots: [] });
    this.#title('Reward terms');
    recording.rewards.forEach((name, i) => this.#add(name, '', 'rewards', i, 1));
    if (recording.forces.length) this.#title('Forces');
    recording.forces.forEach((name, i) => this.#add(name, 'N', 'forces', i, 1));
    this.#title('Observation');
    let offset = 0;
    for (const { name, unit, size } of recording.observations) {
      this.#add(name, unit, 'observations', offset, size);
      offset += size;
    }
    this.metrics = element('dl', place);
  }

  #title(text) {
    this.element('h2', this.place, { textContent: text });
  }

  #add(name, unit, key, first, size) {
    const figure = this.element('figure', this.place);
    const said = this.element('figcaption', figure);
    this.element('span', said, { textContent: name.replaceAll('_', ' ') + (unit ? ` [${unit}]` : '') });
    const values = this.element('span', said, { className: 'values' });
    const canvas = this.element('canvas', figure);
    canvas.addEventListener('click', (event) => this.onSeek(event.offsetX / canvas.clientWidth));
    this.plots.push({ canvas, values, key, first, size });
  }

  /** Draws the episodes that are shown; `colorOf` gives each its colour, null where it is alone. */
  draw(shown, stepOf, colorOf, end) {
    for (const plot of this.plots) this.#curves(plot, shown, stepOf, colorOf, end);
    this.metrics.replaceChildren();
    for (const episode of shown) {
      for (const [name, value] of stepOf(episode) === episode.steps ? Object.entries(episode.metrics) : []) {
        this.element('dt', this.metrics, { textContent: name.replaceAll('_', ' ') });
        const told = this.element('dd', this.metrics, { textContent: `${value.toPrecision(3)} ${this.recording.metrics[name] ?? ''}` });
        told.style.color = colorOf(episode) ?? '';
      }
    }
  }

  #curves({ canvas, values, key, first, size }, shown, stepOf, colorOf, end) {
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(canvas, { width: w * devicePixelRatio, height: h * devicePixelRatio });
    const pen = canvas.getContext('2d');
    pen.scale(devicePixelRatio, devicePixelRatio);
    let [low, high] = [Infinity, -Infinity];
    for (const episode of shown) {
      for (let i = 0; i <= episode.steps; i++) {
        for (let k = first; k < first + size; k++) {
          const value = episode.value(key, i, k);
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
    }
    const span = high - low || 1;
    const x = (step) => (step / this.recording.hz / (end || 1)) * w;
    const y = (value) => h - 3 - ((value - low) / span) * (h - 6);
    values.replaceChildren();
    for (const episode of shown) {
      const color = colorOf(episode);
      for (let k = 0; k < size; k++) {
        Object.assign(pen, { strokeStyle: color ?? LINES[k % LINES.length], lineWidth: 1.3 });
        pen.beginPath();
        const stride = Math.max(1, Math.floor(episode.steps / (2 * w))); // no more than two points a pixel
        for (let i = 0; i <= episode.steps; i += stride) pen.lineTo(x(i), y(episode.value(key, i, first + k)));
        pen.stroke();
      }
      const step = stepOf(episode);
      const now = Array.from({ length: Math.min(size, MOST_VALUES) }, (_, k) => episode.value(key, step, first + k).toFixed(2));
      const told = this.element('span', values, { textContent: now.join('  ') + (size > MOST_VALUES ? ' …' : '') });
      told.style.color = color ?? '';
    }
    pen.fillStyle = getComputedStyle(document.body).color;
    const latest = Math.max(...shown.map(stepOf));
    pen.fillRect(Math.min(x(latest), w - 1), 0, 1, h);
  }
}
