// Plays recorded episodes of physai, and shows a session that runs, in step with curves of what was measured.
import { Live, Recorded } from 'viewer/episodes';
import { LINES, Plots } from 'viewer/plots';
import { Remote } from 'viewer/remote';
import { Scene } from 'viewer/scene';

const recording = JSON.parse(document.getElementById('recording').textContent);
const CAMERAS = ['task', 'top', 'side', 'close', 'follow'];
const widths = {
  rewards: recording.rewards.length, forces: recording.forces.length,
  observations: recording.observations.reduce((sum, term) => sum + term.size, 0),
};

function element(tag, parent, values = {}) {
  const made = Object.assign(document.createElement(tag), values);
  parent.append(made);
  return made;
}

// --- the page -------------------------------------------------------------------------------------------------------
const header = element('header', document.body);
element('h1', header, { textContent: recording.task.replaceAll('_', ' ') });
element('span', header, { textContent: recording.live ? '' : recording.words });
const choice = element('div', header, { id: 'episodes' });
const main = element('main', document.body);
const aside = element('aside', document.body);
const footer = element('footer', document.body);
const controls = recording.live ? element('div', footer, { id: 'controls' }) : null;
const bar = element('div', footer, { id: 'bar' });
const play = element('button', bar, { id: 'play', textContent: 'Play', title: 'space' });
const slider = element('input', bar, { type: 'range', id: 'time', min: 0, step: 'any', value: 0, ariaLabel: 'time' });
const clock = element('output', bar);
const now = recording.live ? element('button', bar, { id: 'live', textContent: 'Live', title: 'back to what happens now' }) : null;
const speed = element('select', bar, { id: 'speed', ariaLabel: 'speed' });
for (const factor of recording.speeds ?? [0.1, 0.25, 0.5, 1, 2, 4]) element('option', speed, { value: factor, textContent: `${factor} ×`, selected: factor === 1 });
const view = element('select', bar, { id: 'camera', ariaLabel: 'camera', title: 'camera (v); the mouse turns it' });
for (const name of CAMERAS) element('option', view, { value: name, textContent: name, selected: name === recording.camera });
const overlay = element('label', bar, { textContent: 'overlay', title: 'laser rays and goal' });
const overlaid = element('input', overlay, { type: 'checkbox', id: 'overlay', checked: true });

// --- what is shown --------------------------------------------------------------------------------------------------
const entries = []; // { id, episode, box, label, caption }
let shown = [];
let time = Number(new URLSearchParams(location.hash.slice(1)).get('t')) || 0;
let playing = false;
let live = null; // the entry of the episode that runs
let following = Boolean(recording.live);

function enter(id, said, episode, checked) {
  const label = element('label', choice);
  const box = element('input', label, { type: 'checkbox', checked });
  element('span', label, { textContent: said });
  const entry = { id, episode, box, label, caption: element('div', main, { className: 'caption', hidden: true }) };
  box.addEventListener('change', () => fetched(entry).then(choose).then(draw));
  entries.push(entry);
  return entry;
}

async function fetched(entry) {
  if (entry.episode || !entry.box.checked) return;
  try {
    entry.episode = new Recorded(await remote.episode(entry.id), widths);
  } catch {
    entry.box.checked = false;
    entry.box.disabled = true;
  }
}

function choose() {
  const chosen = entries.filter((entry) => entry.box.checked && entry.episode);
  if (!chosen.length && shown.length) shown[0].box.checked = true;
  shown = chosen.length ? chosen : shown;
  if (live && !shown.includes(live)) following = false;
  setEnd();
}

function setEnd() {
  slider.max = Math.max(0, ...shown.map((entry) => entry.episode.steps)) / recording.hz;
  time = following ? live.episode.steps / recording.hz : Math.min(time, Number(slider.max));
}

const dark = matchMedia('(prefers-color-scheme: dark)');
let scene;
try {
  scene = new Scene(recording, main, () => scene.lamp && render());
} catch {
  element('div', main, { className: 'problem', textContent: 'This browser has no WebGL, so the scene cannot be drawn.' });
  throw new Error('no WebGL');
}
const plots = new Plots(recording, aside, element, (share) => seek(share * Number(slider.max)));
const stepOf = (episode) => Math.min(Math.round(time * recording.hz), episode.steps);

function colorOf(episode) {
  return shown.length > 1 ? LINES[shown.findIndex((entry) => entry.episode === episode) % LINES.length] : null;
}

function caption({ caption: place, episode }) {
  const step = stepOf(episode);
  const won = episode.successAt !== null && step >= episode.successAt;
  const lost = !won && episode.ended && step === episode.steps;
  place.textContent = `seed ${episode.seed}   ${(step / recording.hz).toFixed(2)} s   `;
  if (won || lost) element('span', place, { className: won ? 'good' : 'bad', textContent: won ? 'success' : 'no success' });
  else if (live?.episode === episode && remote.state.paused) element('span', place, { textContent: 'PAUSED' });
  let sum = 0;
  for (let i = 0; i <= step; i++) for (let k = 0; k < widths.rewards; k++) sum += episode.value('rewards', i, k);
  const forces = recording.forces.map((name, k) => `${name} ${episode.value('forces', step, k).toFixed(1)} N`);
  element('div', place, { className: 'small', textContent: [episode.actor, `return ${sum.toFixed(2)}`, ...forces].join('   ') });
  place.style.borderColor = colorOf(episode) ?? 'transparent';
}

function render() {
  const corners = scene.render(shown.map((entry) => entry.episode), stepOf);
  for (const entry of entries) entry.caption.hidden = !shown.includes(entry);
  shown.forEach(({ caption: place }, i) => {
    Object.assign(place.style, { left: `${corners[i][0] + 10}px`, top: `${corners[i][1] + 10}px` });
  });
}

function draw() {
  if (!shown.length) return;
  slider.value = time;
  clock.textContent = `${time.toFixed(2)} / ${Number(slider.max).toFixed(2)} s`;
  now?.classList.toggle('on', following);
  play.textContent = (following ? !remote.state.paused : playing) ? 'Pause' : 'Play';
  const [first] = shown;
  scene.ride(first.episode, stepOf(first.episode));
  render();
  shown.forEach(caption);
  plots.draw(shown.map((entry) => entry.episode), stepOf, colorOf, Number(slider.max));
}

let drawing = false;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

// --- time -----------------------------------------------------------------------------------------------------------
function seek(to) {
  following = false;
  time = Math.max(0, Math.min(to, Number(slider.max)));
  draw();
}

let last = 0;
function tick(at) {
  if (!playing || following) return;
  seek(time + ((at - last) / 1000) * Number(speed.value));
  last = at;
  if (time >= Number(slider.max)) toggle();
  else requestAnimationFrame(tick);
}

function toggle() {
  if (following) {
    remote.order('pause');
    return;
  }
  playing = !playing;
  if (playing && time >= Number(slider.max)) time = 0;
  last = performance.now();
  if (playing) requestAnimationFrame(tick);
  draw();
}

function follow() {
  playing = false;
  live.box.checked = true;
  following = true;
  choose();
  draw();
}

// --- a session that runs --------------------------------------------------------------------------------------------
const on = {
  begin(said) {
    if (live?.id === said.id) return; // connected again
    const stays = live && !following && live.box.checked && entries.find((entry) => entry !== live && entry.id === live.id);
    live ??= enter(said.id, 'live', null, true);
    live.id = said.id;
    live.episode = null;
    live.coming = new Live(said, widths);
    if (!stays) return;
    live.box.checked = false; // somebody looks at what was, and goes on doing so
    stays.box.checked = true;
    fetched(stays).then(choose).then(draw);
  },
  changes({ id, colors, goals }) {
    if (id === live?.id) Object.assign(live.coming, { colors, goals });
  },
  frame(said) {
    if (said.id !== live?.id) return;
    live.coming.take(said);
    if (!live.episode) {
      live.episode = live.coming; // it has a moment that can be drawn
      if (!scene.lamp) scene.begin(live.episode, dark.matches);
      choose();
    }
    if (shown.includes(live)) {
      setEnd();
      drawSoon();
    }
  },
  episodes(list) {
    const kept = new Set(list.map((told) => told.id));
    for (const entry of entries.filter((one) => one !== live && !kept.has(one.id) && !one.episode)) {
      entry.label.remove();
      entries.splice(entries.indexOf(entry), 1);
    }
    for (const told of list.filter((one) => !entries.some((entry) => entry !== live && entry.id === one.id))) {
      const entry = enter(told.id, `${told.seed} ${told.successAt === null ? '✗' : '✓'}`, null, false);
      entry.label.title = `${told.actor}, ${(told.steps / recording.hz).toFixed(2)} s, return ${told.return.toFixed(2)}`;
    }
  },
  state(state) {
    if (following) speed.value = state.speed;
    drawSoon();
  },
};
const remote = recording.live ? new Remote(element, controls, recording.speeds, on) : null;

// --- what a person does ---------------------------------------------------------------------------------------------
function stand(name) {
  view.value = name;
  scene.stand(shown[0].episode, stepOf(shown[0].episode), name);
  draw();
}

play.addEventListener('click', toggle);
now?.addEventListener('click', follow);
slider.addEventListener('input', () => seek(Number(slider.value)));
speed.addEventListener('change', () => following && remote.order('speed', Number(speed.value)));
view.addEventListener('change', () => stand(view.value));
overlaid.addEventListener('change', () => {
  scene.overlay = overlaid.checked;
  draw();
});
dark.addEventListener('change', () => {
  scene.backdrop(dark.matches);
  draw();
});
addEventListener('hashchange', () => seek(Number(new URLSearchParams(location.hash.slice(1)).get('t')) || 0));
addEventListener('keydown', (event) => {
  const typing = event.target.tagName === 'SELECT' || event.target.id === 'seed';
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.code === 'Space') toggle();
  else if (event.key === 'v') stand(CAMERAS[(CAMERAS.indexOf(view.value) + 1) % CAMERAS.length]);
  else if (!remote?.press(event.key)) return;
  event.preventDefault();
});
// a button or a box that has the focus would be pressed by the same space
addEventListener('keyup', (event) => event.code === 'Space' && event.target.matches('button, input') && event.preventDefault());
new ResizeObserver(() => {
  scene.resize();
  draw();
}).observe(main);

if (!recording.live) {
  recording.episodes.forEach((said, i) => enter(i, `seed ${said.seed}`, new Recorded(said, widths), i === 0));
  choose();
  scene.begin(shown[0].episode, dark.matches);
}
scene.resize();
draw();
