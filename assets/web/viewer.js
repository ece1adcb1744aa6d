// Plays a recording of physai: world poses of all links per control step. SI units, z is up.
import * as THREE from 'three';
import { OrbitControls } from 'three/OrbitControls';

const PARKED = 200; // m from the origin: beyond every scene, where the simulation puts bodies aside
const LINES = ['#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#17becf'];
const recording = JSON.parse(document.getElementById('recording').textContent);

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
}
const floats = (text) => new Float32Array(bytes(text));

function element(tag, parent, values = {}) {
  const made = Object.assign(document.createElement(tag), values);
  parent.append(made);
  return made;
}

// --- the page -------------------------------------------------------------------------------------------------------
const header = element('header', document.body);
element('h1', header, { textContent: recording.task });
element('span', header, { textContent: recording.words });
const choice = element('div', header, { id: 'episodes' });
const main = element('main', document.body);
const aside = element('aside', document.body);
const footer = element('footer', document.body);
const play = element('button', footer, { textContent: 'Play', title: 'space' });
const slider = element('input', footer, { type: 'range', id: 'time', min: 0, step: 'any', value: 0, ariaLabel: 'time' });
const clock = element('output', footer);
const speed = element('select', footer, { ariaLabel: 'speed' });
for (const factor of [0.1, 0.25, 0.5, 1, 2, 4]) element('option', speed, { value: factor, textContent: `${factor} ×`, selected: factor === 1 });

// --- episodes -------------------------------------------------------------------------------------------------------
const links = 1 + Math.max(...recording.shapes.map((shape) => shape.link));
const episodes = recording.episodes.map((said, i) => {
  const label = element('label', choice);
  const box = element('input', label, { type: 'checkbox', checked: i === 0 });
  label.append(` seed ${said.seed}`);
  const caption = element('div', main, { className: 'caption' });
  box.addEventListener('change', () => { choose(); draw(); });
  const slots = new Map(said.moving.map((link, slot) => [link, slot]));
  return {
    ...said, box, caption, slots, still: floats(said.still), poses: floats(said.poses), cameras: floats(said.cameras),
    rewards: floats(said.rewards), observations: floats(said.observations),
  };
});
let shown = [episodes[0]];
let time = Number(new URLSearchParams(location.hash.slice(1)).get('t')) || 0;
let playing = false;

function choose() {
  const chosen = episodes.filter((episode) => episode.box.checked);
  if (!chosen.length) shown[0].box.checked = true;
  shown = chosen.length ? chosen : [shown[0]];
  slider.max = Math.max(...shown.map((episode) => episode.steps)) / recording.hz;
  time = Math.min(time, Number(slider.max));
}

// --- the scene ------------------------------------------------------------------------------------------------------
THREE.Object3D.DEFAULT_UP.set(0, 0, 1);
function added(parent, child) {
  parent.add(child);
  return child;
}

const dark = matchMedia('(prefers-color-scheme: dark)');
const scene = new THREE.Scene();
const frames = Array.from({ length: links }, () => added(scene, new THREE.Group()));

function geometry({ kind, size, points, faces }) {
  if (kind === 'box') return new THREE.BoxGeometry(...size);
  if (kind === 'sphere') return new THREE.SphereGeometry(size[0], 32, 20);
  if (kind === 'cylinder') return new THREE.CylinderGeometry(size[1], size[1], size[0], 40).rotateX(Math.PI / 2);
  if (kind === 'capsule') return new THREE.CapsuleGeometry(size[1], size[0], 12, 32).rotateX(Math.PI / 2);
  if (kind === 'plane' || !points) return new THREE.PlaneGeometry(100, 100);
  const mesh = new THREE.BufferGeometry();
  mesh.setAttribute('position', new THREE.BufferAttribute(floats(points), 3));
  mesh.setIndex(new THREE.BufferAttribute(new Uint32Array(bytes(faces)), 1));
  mesh.scale(...size).computeVertexNormals();
  return mesh;
}

function paint(mesh, [red, green, blue, opacity]) {
  mesh.material.color.setRGB(red, green, blue, THREE.SRGBColorSpace);
  mesh.material.opacity = opacity;
  mesh.material.transparent = opacity < 1;
  mesh.visible = opacity > 0;
  mesh.castShadow = opacity === 1;
}

const worn = recording.shapes.map((shape) => {
  const material = new THREE.MeshStandardMaterial({ roughness: 0.75, metalness: 0 });
  const mesh = added(frames[shape.link], new THREE.Mesh(geometry(shape), material));
  mesh.position.fromArray(shape.at);
  mesh.quaternion.fromArray(shape.at, 3);
  mesh.geometry.computeBoundingSphere();
  mesh.receiveShadow = true;
  frames[shape.link].userData.reach = Math.max(
    frames[shape.link].userData.reach ?? 0, mesh.position.length() + mesh.geometry.boundingSphere.center.length() + mesh.geometry.boundingSphere.radius,
  );
  return { mesh, ...shape };
});

const [ex, ey, ez, tx, ty, tz] = episodes[0].cameras;
const eye = new THREE.Vector3(ex, ey, ez);
const target = new THREE.Vector3(tx, ty, tz);
const away = eye.distanceTo(target);
const camera = new THREE.PerspectiveCamera(recording.fieldOfView, 1, away / 100, away * 100);
camera.position.copy(eye);
scene.add(new THREE.HemisphereLight(0xffffff, 0xb8bcc4, 1.5));
const lamp = added(scene, new THREE.DirectionalLight(0xffffff, 1.8));
const direction = new THREE.Vector3(...recording.light).normalize();
scene.add(lamp.target);
lamp.castShadow = true;
lamp.shadow.mapSize.set(2048, 2048);
lamp.shadow.normalBias = away / 400;
Object.assign(lamp.shadow.camera, { left: -away, right: away, top: away, bottom: -away, near: 0.1, far: 6 * away });

let renderer;
try {
  renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
} catch {
  element('div', main, { className: 'problem', textContent: 'This browser has no WebGL, so the scene cannot be drawn.' });
  throw new Error('no WebGL');
}
renderer.shadowMap.enabled = true;
renderer.shadowMap.type = THREE.PCFSoftShadowMap;
main.prepend(renderer.domElement);
const controls = new OrbitControls(camera, renderer.domElement);
controls.target.copy(target);
controls.update();
controls.addEventListener('change', render);

function backdrop() {
  const color = new THREE.Color(dark.matches ? '#1d2530' : '#e3eaf2');
  scene.background = color;
  scene.fog = new THREE.Fog(color, away * 4, away * 12);
}
backdrop();
dark.addEventListener('change', () => { backdrop(); draw(); });

const stepOf = (episode) => Math.min(Math.round(time * recording.hz), episode.steps);

function pose(episode) {
  const step = stepOf(episode);
  frames.forEach((frame, link) => {
    const slot = episode.slots.get(link);
    const from = slot === undefined ? episode.still : episode.poses;
    const at = 7 * (slot === undefined ? link : step * episode.moving.length + slot);
    frame.position.fromArray(from, at);
    frame.quaternion.fromArray(from, at + 3);
    frame.visible = frame.position.length() < PARKED && frame.position.z + frame.userData.reach > 0;
  });
  const colors = new Map(episode.colors.filter((change) => change[0] <= step).map((change) => [change[1], change.slice(2)]));
  for (const shape of worn) paint(shape.mesh, colors.get(shape.link) ?? shape.color);
}

const lastTarget = target.clone();
function targetOf(episode) {
  return new THREE.Vector3().fromArray(episode.cameras, 6 * Math.min(stepOf(episode), episode.cameras.length / 6 - 1) + 3);
}

function ride(episode) { // a camera that follows goes where its target goes, and keeps how the mouse turned it
  const next = targetOf(episode);
  const moved = next.clone().sub(lastTarget);
  lastTarget.copy(next);
  camera.position.add(moved);
  controls.target.add(moved);
}

function render() {
  const { clientWidth: width, clientHeight: height } = main;
  const columns = Math.max(1, Math.min(shown.length, Math.round(Math.sqrt((shown.length * width) / height / 1.3))));
  const rows = Math.ceil(shown.length / columns);
  const [w, h] = [width / columns, height / rows];
  renderer.setScissorTest(true);
  camera.aspect = w / h;
  camera.updateProjectionMatrix();
  for (const episode of episodes) episode.caption.hidden = !shown.includes(episode);
  shown.forEach((episode, i) => {
    const [left, top] = [(i % columns) * w, Math.floor(i / columns) * h];
    pose(episode);
    const beside = targetOf(episode).sub(lastTarget); // every episode has its own machine in the middle
    lamp.target.position.copy(controls.target).add(beside);
    lamp.position.copy(lamp.target.position).addScaledVector(direction, 3 * away);
    camera.position.add(beside);
    renderer.setViewport(left, height - top - h, w, h);
    renderer.setScissor(left + (left && 1), height - top - h, w, h - (top && 1));
    renderer.render(scene, camera);
    camera.position.sub(beside);
    episode.caption.style.cssText = `left:${left + 10}px;top:${top + 10}px`;
  });
}

// --- captions and plots ---------------------------------------------------------------------------------------------
function caption(episode) {
  const step = stepOf(episode);
  const won = episode.successAt !== null && step >= episode.successAt;
  const lost = !won && step === episode.steps;
  episode.caption.textContent = `seed ${episode.seed}   ${(step / recording.hz).toFixed(2)} s   `;
  if (won || lost) element('span', episode.caption, { className: won ? 'good' : 'bad', textContent: won ? 'success' : 'no success' });
}

const plots = [];
function plot(name, unit, key, offset, size, width) {
  const figure = element('figure', aside);
  const said = element('figcaption', figure);
  element('span', said, { textContent: name.replaceAll('_', ' ') + (unit ? ` [${unit}]` : '') });
  const value = element('span', said);
  const canvas = element('canvas', figure);
  canvas.addEventListener('click', (event) => seek((event.offsetX / canvas.clientWidth) * Number(slider.max)));
  plots.push({ canvas, value, key, offset, size, width });
}

element('h2', aside, { textContent: 'Reward terms' });
recording.rewards.forEach((name, i) => plot(name, '', 'rewards', i, 1, recording.rewards.length));
element('h2', aside, { textContent: 'Observation' });
const total = recording.observations.reduce((sum, term) => sum + term.size, 0);
let offset = 0;
for (const term of recording.observations) {
  plot(term.name, term.unit, 'observations', offset, term.size, total);
  offset += term.size;
}

function drawPlot({ canvas, value, key, offset: first, size, width }) {
  const episode = shown[0];
  const [w, h, step] = [canvas.clientWidth, canvas.clientHeight, stepOf(episode)];
  const ratio = devicePixelRatio;
  canvas.width = w * ratio;
  canvas.height = h * ratio;
  const pen = canvas.getContext('2d');
  pen.scale(ratio, ratio);
  const at = (i, k) => episode[key][i * width + first + k];
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i <= episode.steps; i++) for (let k = 0; k < size; k++) { low = Math.min(low, at(i, k)); high = Math.max(high, at(i, k)); }
  const span = high - low || 1;
  const x = (i) => (i / recording.hz / (Number(slider.max) || 1)) * w;
  const y = (v) => h - 3 - ((v - low) / span) * (h - 6);
  for (let k = 0; k < size; k++) {
    pen.strokeStyle = LINES[k % LINES.length];
    pen.lineWidth = 1.3;
    pen.beginPath();
    for (let i = 0; i <= episode.steps; i++) pen.lineTo(x(i), y(at(i, k)));
    pen.stroke();
  }
  pen.fillStyle = getComputedStyle(document.body).color;
  pen.fillRect(Math.min(x(step), w - 1), 0, 1, h);
  value.textContent = Array.from({ length: Math.min(size, 3) }, (_, k) => at(step, k).toFixed(2)).join('  ') + (size > 3 ? ' …' : '');
}

// --- time -----------------------------------------------------------------------------------------------------------
function draw() {
  slider.value = time;
  clock.textContent = `${time.toFixed(2)} / ${Number(slider.max).toFixed(2)} s`;
  ride(shown[0]);
  controls.update();
  render();
  shown.forEach(caption);
  plots.forEach(drawPlot);
}

function seek(to) {
  time = Math.max(0, Math.min(to, Number(slider.max)));
  draw();
}

let last = 0;
function tick(now) {
  if (!playing) return;
  seek(time + ((now - last) / 1000) * Number(speed.value));
  last = now;
  if (time >= Number(slider.max)) toggle();
  else requestAnimationFrame(tick);
}

function toggle() {
  playing = !playing;
  play.textContent = playing ? 'Pause' : 'Play';
  if (!playing) return;
  if (time >= Number(slider.max)) time = 0;
  last = performance.now();
  requestAnimationFrame(tick);
}

function resize() {
  renderer.setPixelRatio(devicePixelRatio);
  renderer.setSize(main.clientWidth, main.clientHeight, false);
  draw();
}

play.addEventListener('click', toggle);
slider.addEventListener('input', () => seek(Number(slider.value)));
addEventListener('hashchange', () => seek(Number(new URLSearchParams(location.hash.slice(1)).get('t')) || 0));
addEventListener('keydown', (event) => {
  if (event.code !== 'Space' || event.target.tagName === 'SELECT') return;
  event.preventDefault();
  toggle();
});
play.addEventListener('keyup', (event) => event.code === 'Space' && event.preventDefault()); // not twice
choose();
resize();
new ResizeObserver(resize).observe(main);
