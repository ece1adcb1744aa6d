// The other end of a page on which a running session is watched: what happens there, and orders to it.

const SAY_AGAIN_MS = 150; // that a key is still down; the session forgets it after 500
const KEYS = { '.': ['step'], r: ['again'], n: ['next'], b: ['back'], m: ['human'] };
const DRIVING = /^(Arrow(Up|Down|Left|Right)|[a-z])$/;

export class Remote {
  /** Fills `place` with controls; `on` has a function for each kind of news. */
  constructor(element, place, speeds, on) {
    Object.assign(this, { element, speeds, on, state: { paused: false, speed: 1, human: false, acting: 0, actors: [] }, held: new Set() });
    const button = (text, title, act) => element('button', place, { textContent: text, title }).addEventListener('click', act);
    button('Step', 'one control step (.)', () => this.order('step'));
    button('Again', 'this episode from its start (r)', () => this.order('again'));
    button('‹ seed', 'the episode before (b)', () => this.order('back'));
    button('seed ›', 'the next episode (n)', () => this.order('next'));
    const seed = element('input', place, { id: 'seed', type: 'number', min: 0, placeholder: 'seed', ariaLabel: 'seed', title: 'Enter goes to the first episode of that evaluation; from 1000000 up, to that episode' });
    seed.addEventListener('change', () => seed.value !== '' && this.order('seed', Number(seed.value)));
    this.actors = element('select', place, { id: 'actor', ariaLabel: 'policy', title: 'who acts (p)' });
    this.actors.addEventListener('change', () => this.order('actor', Number(this.actors.value)));
    this.human = element('button', place, { id: 'human', textContent: 'Act yourself', title: 'by keys (m)' });
    this.human.addEventListener('click', () => this.order('human'));
    this.said = element('span', place, { id: 'said', role: 'status' });
    element('a', place, { href: 'recording.html', download: 'recording.html', textContent: 'Save', title: 'the finished episodes as one file' });
    this.#listen();
    addEventListener('keyup', (event) => this.#release([event.key]));
    addEventListener('blur', () => this.#release([...this.held]));
    setInterval(() => this.held.size && this.#tellKeys(), SAY_AGAIN_MS);
  }

  #listen() {
    const source = new EventSource('events');
    for (const kind of ['begin', 'changes', 'frame', 'episodes']) {
      source.addEventListener(kind, (event) => this.on[kind](JSON.parse(event.data)));
    }
    source.addEventListener('open', () => this.#say(this.state.said ?? ''));
    source.addEventListener('state', (event) => this.#take(JSON.parse(event.data)));
    source.addEventListener('end', (event) => {
      source.close();
      this.#say(JSON.parse(event.data), true);
    });
    source.addEventListener('error', () => this.#say('the session does not answer; trying again', true));
  }

  #say(text, bad = false) {
    Object.assign(this.said, { textContent: text, className: bad ? 'bad' : '' });
  }

  #take(state) {
    if (state.actors.join() !== this.state.actors.join()) {
      this.actors.replaceChildren();
      state.actors.forEach((name, value) => this.element('option', this.actors, { value, textContent: name }));
    }
    this.state = state;
    this.actors.value = state.acting;
    this.human.textContent = state.human ? 'Give back' : 'Act yourself';
    this.#say(state.said || (state.human ? state.keys.join(', ') : ''), Boolean(state.said));
    this.on.state(state);
  }

  async order(what, value) {
    try {
      const answer = await fetch('orders', { method: 'POST', body: JSON.stringify({ do: what, value }) });
      if (!answer.ok) this.#say(`the session did not take this (${answer.status})`, true);
    } catch {
      this.#say('the session does not answer', true);
    }
  }

  async episode(id) {
    const answer = await fetch(`episodes/${id}`);
    if (!answer.ok) throw new Error(`episode ${id} is not kept any more`);
    return answer.json();
  }

  /** Does what a key of the window does, too; returns whether it is one. */
  press(key) {
    if (KEYS[key]) this.order(...KEYS[key]);
    else if (key === 'p') this.order('actor', this.state.acting + 1);
    else if ('+=-'.includes(key)) this.#changeSpeed(key === '-' ? -1 : 1);
    else if (this.state.human && DRIVING.test(key)) this.#hold(key);
    else return false;
    return true;
  }

  #changeSpeed(by) {
    const next = this.speeds[this.speeds.indexOf(this.state.speed) + by];
    if (next) this.order('speed', next);
  }

  #hold(key) {
    if (this.held.has(key)) return;
    this.held.add(key);
    this.#tellKeys();
  }

  #release(keys) {
    if (keys.filter((key) => this.held.delete(key)).length) this.#tellKeys();
  }

  #tellKeys() {
    this.order('keys', [...this.held]);
  }
}
