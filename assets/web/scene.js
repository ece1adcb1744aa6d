// Draws episodes, several of them side by side. World frame, SI units, z is up.
import * as THREE from 'three';
import { OrbitControls } from 'three/OrbitControls';
import { bytes, floats } from 'viewer/episodes';

const PARKED = 200; // m from the origin: beyond every scene, where the simulation puts bodies aside
const RAY = 0xf04030;
const GOAL = '#16803c';
THREE.Object3D.DEFAULT_UP.set(0, 0, 1);

function added(parent, child) {
  parent.add(child);
  return child;
}

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

/** A pin with the word goal, as large as a person needs it from `away` [m]. */
function pin(away) {
  const group = new THREE.Group();
  const canvas = Object.assign(document.createElement('canvas'), { width: 128, height: 64 });
  const pen = canvas.getContext('2d');
  Object.assign(pen, { font: '600 44px system-ui, sans-serif', textAlign: 'center', fillStyle: GOAL, strokeStyle: '#fff', lineWidth: 8 });
  pen.strokeText('goal', 64, 44);
  pen.fillText('goal', 64, 44);
  const map = new THREE.CanvasTexture(canvas);
  map.colorSpace = THREE.SRGBColorSpace;
  const word = added(group, new THREE.Sprite(new THREE.SpriteMaterial({ map, depthTest: false, transparent: true })));
  word.scale.set(0.14 * away, 0.07 * away, 1);
  word.position.z = 0.07 * away;
  const ring = added(group, new THREE.Mesh(new THREE.TorusGeometry(0.012 * away, 0.002 * away, 8, 32), new THREE.MeshBasicMaterial({ color: GOAL, depthTest: false })));
  ring.renderOrder = 1;
  return group;
}

/** The scene of a recording in an element of the page; `onTurn` is called when the mouse has turned it. */
export class Scene {
  constructor(recording, place, onTurn) {
    Object.assign(this, { recording, place, overlay: true, cameraName: recording.camera });
    this.root = new THREE.Scene();
    const links = 1 + Math.max(...recording.shapes.map((shape) => shape.link));
    this.frames = Array.from({ length: links }, () => added(this.root, new THREE.Group()));
    this.worn = recording.shapes.map((shape) => this.#wear(shape));
    this.camera = new THREE.PerspectiveCamera(recording.fieldOfView, 1, 0.01, 100);
    this.renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
    this.renderer.shadowMap.enabled = true;
    this.renderer.shadowMap.type = THREE.PCFSoftShadowMap;
    place.prepend(this.renderer.domElement);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.addEventListener('change', onTurn);
    this.rays = added(this.root, new THREE.LineSegments(new THREE.BufferGeometry(), new THREE.LineBasicMaterial({ color: RAY, transparent: true, opacity: 0.55 })));
    this.rays.frustumCulled = false;
    this.lastTarget = new THREE.Vector3();
  }

  #wear(shape) {
    const frame = this.frames[shape.link];
    const material = new THREE.MeshStandardMaterial({ roughness: 0.75, metalness: 0 });
    const mesh = added(frame, new THREE.Mesh(geometry(shape), material));
    mesh.position.fromArray(shape.at);
    mesh.quaternion.fromArray(shape.at, 3);
    mesh.geometry.computeBoundingSphere();
    mesh.receiveShadow = true;
    const { center, radius } = mesh.geometry.boundingSphere;
    frame.userData.reach = Math.max(frame.userData.reach ?? 0, mesh.position.length() + center.length() + radius);
    return { mesh, ...shape };
  }

  /** Lights the scene for a camera that stands where the first episode begins. */
  begin(episode, dark) {
    this.stand(episode, 0, this.cameraName);
    const away = this.camera.position.distanceTo(this.controls.target);
    Object.assign(this.camera, { near: away / 100, far: away * 100 });
    this.away = away;
    added(this.root, new THREE.HemisphereLight(0xffffff, 0xb8bcc4, 1.5));
    this.lamp = added(this.root, new THREE.DirectionalLight(0xffffff, 1.8));
    this.direction = new THREE.Vector3(...this.recording.light).normalize();
    this.root.add(this.lamp.target);
    this.lamp.castShadow = true;
    this.lamp.shadow.mapSize.set(2048, 2048);
    this.lamp.shadow.normalBias = away / 400;
    Object.assign(this.lamp.shadow.camera, { left: -away, right: away, top: away, bottom: -away, near: 0.1, far: 6 * away });
    this.pin = added(this.root, pin(away));
    this.backdrop(dark);
  }

  backdrop(dark) {
    const color = new THREE.Color(dark ? '#1d2530' : '#e3eaf2');
    this.root.background = color;
    this.root.fog = new THREE.Fog(color, this.away * 4, this.away * 12);
  }

  /** Stands where a named camera stands at a step. */
  stand(episode, step, name) {
    this.cameraName = name;
    const row = episode.camera(name, step);
    this.camera.position.fromArray(row);
    this.controls.target.fromArray(row, 3);
    this.lastTarget.copy(this.controls.target);
    this.controls.update();
  }

  #target(episode, step) {
    return new THREE.Vector3().fromArray(episode.camera(this.cameraName, step), 3);
  }

  /** Goes where the camera's target went, and keeps how the mouse turned it. */
  ride(episode, step) {
    const next = this.#target(episode, step);
    const moved = next.clone().sub(this.lastTarget);
    this.lastTarget.copy(next);
    this.camera.position.add(moved);
    this.controls.target.add(moved);
    this.controls.update();
  }

  #pose(episode, step) {
    this.frames.forEach((frame, link) => {
      const [from, at] = episode.pose(link, step);
      frame.position.fromArray(from, at);
      frame.quaternion.fromArray(from, at + 3);
      frame.visible = frame.position.length() < PARKED && frame.position.z + frame.userData.reach > 0;
    });
    const colors = new Map(episode.colors.filter((change) => change[0] <= step).map((change) => [change[1], change.slice(2)]));
    for (const shape of this.worn) paint(shape.mesh, colors.get(shape.link) ?? shape.color);
    const goal = this.overlay && episode.goal(step);
    this.pin.visible = Boolean(goal);
    if (goal) this.pin.position.fromArray(goal);
    this.#shine(this.overlay ? episode.sight(step) : new Float32Array(0));
  }

  /** Draws what a laser scanner sees: its place, then the points that it hits; the rays lie in one plane. */
  #shine(points) {
    this.rays.visible = points.length > 3;
    if (!this.rays.visible) return;
    const ends = new Float32Array(2 * (points.length - 3));
    for (let i = 3; i < points.length; i += 3) {
      ends.set([points[0], points[1], points[i + 2], points[i], points[i + 1], points[i + 2]], 2 * (i - 3));
    }
    this.rays.geometry.dispose();
    this.rays.geometry = new THREE.BufferGeometry().setAttribute('position', new THREE.BufferAttribute(ends, 3));
  }

  resize() {
    this.renderer.setPixelRatio(devicePixelRatio);
    this.renderer.setSize(this.place.clientWidth, this.place.clientHeight, false);
  }

  /** Draws episodes, each at its own step; returns the corner of each in the page. */
  render(shown, stepOf) {
    const { clientWidth: width, clientHeight: height } = this.place;
    const columns = Math.max(1, Math.min(shown.length, Math.round(Math.sqrt((shown.length * width) / height / 1.3))));
    const [w, h] = [width / columns, height / Math.ceil(shown.length / columns)];
    this.renderer.setScissorTest(true);
    this.camera.aspect = w / h;
    this.camera.updateProjectionMatrix();
    return shown.map((episode, i) => {
      const [left, top] = [(i % columns) * w, Math.floor(i / columns) * h];
      const step = stepOf(episode);
      this.#pose(episode, step);
      const beside = this.#target(episode, step).sub(this.lastTarget); // every episode has its own machine in the middle
      this.lamp.target.position.copy(this.controls.target).add(beside);
      this.lamp.position.copy(this.lamp.target.position).addScaledVector(this.direction, 3 * this.away);
      this.camera.position.add(beside);
      this.renderer.setViewport(left, height - top - h, w, h);
      this.renderer.setScissor(left + (left && 1), height - top - h, w, h - (top && 1));
      this.renderer.render(this.root, this.camera);
      this.camera.position.sub(beside);
      return [left, top];
    });
  }
}
