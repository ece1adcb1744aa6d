"""A window that shows a world, and says which keys are down.

It is a second world, built like the first by the same functions, whose client is Bullet's own graphical one; it is
never stepped. Poses are copied into it. So no slow display, no mouse and no closed window can touch the physics.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from physai.errors import DisplayError
from physai_envs.body import Body
from physai_envs.building import Box
from physai_envs.engine import (
    NO_ROTATION,
    STDERR,
    STDOUT,
    Physics,
    Vector,
    bullet,
    multiply,
    quaternion_from_euler,
    silenced,
)
from physai_envs.geometry import subtract
from physai_envs.world import World

SKY = (0.90, 0.93, 0.96)
PANEL_AT = 0.05  # m in front of the camera, nearer than anything else; the near plane is at 0.01 m
PANEL_MARGIN = 12  # pixels
SHADOW_PIXELS = 2048
LABEL_RISE = 0.05  # of a word over its place, in shares of the distance from the camera
RECOLOURED = 4  # bodies a picture: each costs the time of one picture
UP_ARROW, DOWN_ARROW, LEFT_ARROW, RIGHT_ARROW = 65297, 65298, 65295, 65296  # Bullet's own key codes
RETURN, BACKSPACE = 65309, 65288  # what X11 and Windows both send


def check_display() -> None:
    """Sees to it that a window can be opened, since Bullet ends the process where it cannot.

    Raises:
        DisplayError: if there is no display.
    """
    if not sys.platform.startswith("linux"):
        return
    wanted = os.environ.get("DISPLAY", "")
    library = ctypes.util.find_library("X11") or "libX11.so.6"
    try:
        x11 = ctypes.CDLL(library)
    except OSError as problem:
        raise DisplayError(f"a window needs the X11 library ({problem}); {WITHOUT}") from problem
    x11.XOpenDisplay.restype, x11.XOpenDisplay.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    x11.XCloseDisplay.argtypes = [ctypes.c_void_p]
    display = x11.XOpenDisplay(None)
    if not display:
        named = f"display {wanted!r} does not answer" if wanted else "there is no display (DISPLAY is not set)"
        raise DisplayError(f"{named}, so no window can open; {WITHOUT}")
    x11.XCloseDisplay(display)


WITHOUT = "watch with --browser, film with --record FILE, or lend it a display: xvfb-run -a physai view ... --gui"


class Window(World):
    """Shows what happens in another world; a context manager is not needed, `close` is.

    Args:
        width, height: of the window, pixels.

    Raises:
        DisplayError: if there is no display.
    """

    draws_itself = True

    def __init__(self, width: int = 1200, height: int = 760) -> None:
        self.width, self.height = width, height
        self._down: set[int] = set()
        self._poses: dict[str, object] = {}
        self._points = self._label = -1
        self._distance, self._labelled = 1.0, ("", (0.0, 0.0, 0.0))
        self._panel: int | None = None
        self._hung = False
        check_display()
        super().__init__(Physics(), visual=True)  # which matters not, since it is never stepped

    def _connect(self) -> int:
        red, green, blue = SKY
        options = f"--width={self.width} --height={self.height} --background_color_red={red} "
        options += f"--background_color_green={green} --background_color_blue={blue}"
        with silenced(STDOUT, STDERR):
            client: int = bullet.connect(bullet.GUI, options=options)
            if client < 0:
                raise DisplayError(f"Bullet could not open a window; {WITHOUT}")
            self.client = client
            for feature in (
                bullet.COV_ENABLE_GUI,
                bullet.COV_ENABLE_MOUSE_PICKING,
                bullet.COV_ENABLE_KEYBOARD_SHORTCUTS,
            ):
                bullet.configureDebugVisualizer(feature, 0, physicsClientId=client)
        self.pause_drawing()
        return client

    def load(
        self, name: str, urdf: Path, position: Sequence[float] = (0, 0, 0), *, fixed: bool, merge_fixed: bool = True
    ) -> Body:
        """Loads a URDF with a link for each colour, since Bullet's window draws a link in one; `merge_fixed` is not."""
        with tempfile.NamedTemporaryFile("wb", suffix=".urdf") as file:
            file.write(_apart(urdf))
            file.flush()
            return super().load(name, Path(file.name), position, fixed=fixed, merge_fixed=False)

    def compound(
        self, name: str, boxes: Sequence[Box], position: Vector = (0, 0, 0), *, mass: float = 0.0,
        color: Vector = (0.7, 0.7, 0.7, 1.0), friction: float = 0.5, scenery: bool = False,
    ) -> Body:  # fmt: skip
        """Adds the looks of several boxes, with a link for each colour."""
        alike: dict[Vector, list[Box]] = {}
        for box in boxes:
            if box.seen:
                alike.setdefault(box.color or color, []).append(box)
        base, *links = [self._looks(group, color) for group in alike.values()] or [-1]
        count = len(links)
        uid = bullet.createMultiBody(
            baseVisualShapeIndex=base, basePosition=position, linkMasses=[0.0] * count,
            linkCollisionShapeIndices=[-1] * count, linkVisualShapeIndices=links,
            linkPositions=[(0, 0, 0)] * count, linkOrientations=[NO_ROTATION] * count,
            linkInertialFramePositions=[(0, 0, 0)] * count, linkInertialFrameOrientations=[NO_ROTATION] * count,
            linkParentIndices=[0] * count, linkJointTypes=[bullet.JOINT_FIXED] * count,
            linkJointAxis=[(0, 0, 1)] * count, physicsClientId=self.client,
        )  # fmt: skip
        return self._add(name, uid, dynamic=mass > 0)

    @property
    def open(self) -> bool:
        """False once the person has closed it."""
        return self.client >= 0 and bool(bullet.isConnected(self.client))

    def pause_drawing(self) -> None:
        """Stops drawing while shapes are built, of which each would cost the time of a picture."""
        bullet.configureDebugVisualizer(bullet.COV_ENABLE_RENDERING, 0, physicsClientId=self.client)

    def draw(self, light: Vector, across: float) -> None:
        """Draws from now on; `light` is the lamp, and shadows fall within `across` of the middle [m]."""
        for body in self.bodies.values():
            for shape in bullet.getVisualShapeData(body.id, physicsClientId=self.client) or ():
                bullet.changeVisualShape(body.id, shape[1], specularColor=(0.1, 0.1, 0.1), physicsClientId=self.client)
        bullet.configureDebugVisualizer(lightPosition=light, physicsClientId=self.client)
        bullet.configureDebugVisualizer(
            shadowMapResolution=SHADOW_PIXELS, shadowMapWorldSize=max(1, round(across)), physicsClientId=self.client
        )
        bullet.configureDebugVisualizer(bullet.COV_ENABLE_RENDERING, 1, physicsClientId=self.client)

    def copy(self, world: World) -> None:
        """Takes over where everything is, and a few of the colours that changed."""
        recoloured = 0
        for name, body in world.bodies.items():
            twin = self.bodies[name]
            state = (body.pose, tuple(body.joint_positions) if body.movable else ())
            if self._poses.get(name) != state:
                self._poses[name] = state
                bullet.resetBasePositionAndOrientation(twin.id, *state[0], self.client)
                if state[1]:
                    joints = [twin.joints[joint] for joint, index in body.joints.items() if index in body.movable]
                    bullet.resetJointStatesMultiDof(
                        twin.id, joints, [[q] for q in state[1]], physicsClientId=self.client
                    )
            for link, color in body.colors.items():
                if twin.colors.get(link) != color and recoloured < RECOLOURED:
                    twin.set_color(color, link)
                    recoloured += 1

    def keys(self) -> tuple[set[int], set[int]]:
        """Returns the keys that were pressed since the last call, and those that are down now."""
        events = bullet.getKeyboardEvents(self.client)
        down = {key for key, state in events.items() if state & bullet.KEY_IS_DOWN}
        tapped = {key for key, state in events.items() if state & bullet.KEY_WAS_RELEASED and key not in self._down}
        pressed = (down - self._down) | tapped  # a short tap is down and up again between two looks
        self._down = down
        return pressed, down

    def look(self, eye: Vector, target: Vector, field_of_view_deg: float, beside: int = 0) -> None:
        """Moves the camera so that it shows what one with this field of view would show in a picture of 4:3.

        Bullet's window has 90 degrees, and cannot have others; so it goes nearer.

        Args:
            eye: of the camera [m].
            target: what is in the middle [m].
            field_of_view_deg: of its height.
            beside: width of what is covered on the left; the middle of the picture is the middle of the rest [pixels].
        """
        x, y, z = subtract(eye, target)
        away, level = math.sqrt(x * x + y * y + z * z), math.hypot(x, y)
        room = min(1.0, (self.width - beside) / self.height * 3.0 / 4.0)
        distance = away * math.tan(math.radians(0.5 * field_of_view_deg)) / room
        yaw, pitch = math.degrees(math.atan2(x, -y)), -math.degrees(math.asin(z / away))
        aside = distance * beside / self.height / (level or 1.0)
        middle = (target[0] + aside * y, target[1] - aside * x, target[2])
        self._distance = distance
        self._hang(yaw, max(pitch, -89.9), distance, middle)  # first, since the next picture begins with the camera
        bullet.resetDebugVisualizerCamera(distance, yaw, max(pitch, -89.9), middle, physicsClientId=self.client)

    def points(self, places: Sequence[Vector], color: Vector, size: float = 3.0) -> None:
        """Draws dots [m] in the place of the last ones; all of them together cost the time of one picture."""
        if places or self._points >= 0:
            more = {} if self._points < 0 else {"replaceItemUniqueId": self._points}
            shown = list(places) or [(0.0, 0.0, -100.0)]  # Bullet takes no empty list
            self._points = bullet.addUserDebugPoints(
                shown, [color[:3]] * len(shown), size, physicsClientId=self.client, **more
            )

    def label(self, text: str, at: Vector, color: Vector = (0.05, 0.35, 0.15)) -> None:
        """Writes a word over a place [m], and removes the last one."""
        at = (at[0], at[1], at[2] + LABEL_RISE * self._distance)
        if (text, at) == self._labelled:
            return
        self._labelled = text, at
        more = {} if self._label < 0 else {"replaceItemUniqueId": self._label}
        self._label = bullet.addUserDebugText(
            text, at, textColorRGB=color[:3], textSize=1.3, physicsClientId=self.client, **more
        )

    def show_panel(self, picture: NDArray[np.uint8], file: Path) -> None:
        """Shows a picture (height, width, 3) in the upper left corner; `file` is one of that size.

        It is a quad with a texture, since Bullet's own lines of text cost the time of a picture each.
        """
        height, width = picture.shape[:2]
        if self._panel is None:
            self._texture = bullet.loadTexture(str(file), physicsClientId=self.client)
            x, y = 0.5 * width, 0.5 * height
            size = 2.0 * PANEL_AT / self.height  # metres a pixel at that distance, at 90 degrees
            corners = [(-x, -y, 0.0), (x, -y, 0.0), (x, y, 0.0), (-x, y, 0.0)]
            shape = bullet.createVisualShape(
                bullet.GEOM_MESH, vertices=[[size * v for v in corner] for corner in corners],
                indices=[0, 1, 2, 0, 2, 3], uvs=[[0, 0], [1, 0], [1, 1], [0, 1]], normals=[[0, 1, 0]] * 4,
                rgbaColor=(1, 1, 1, 1), specularColor=(0, 0, 0), physicsClientId=self.client,
            )  # fmt: skip
            self._panel = bullet.createMultiBody(0, -1, shape, physicsClientId=self.client)
            bullet.changeVisualShape(self._panel, -1, textureUniqueId=self._texture, physicsClientId=self.client)
        bullet.changeTexture(self._texture, np.ascontiguousarray(picture).tobytes(), width, height, self.client)
        self._panel_size, self._hung = (width, height), True

    def hang_panel(self) -> None:
        """Keeps the panel in its corner, wherever the mouse took the camera."""
        seen = bullet.getDebugVisualizerCamera(physicsClientId=self.client)
        self._hang(seen[8], seen[9], seen[10], seen[11])

    def _hang(self, yaw: float, pitch: float, distance: float, target: Vector) -> None:
        """Puts the panel where this camera sees it in its corner, if it is up [degrees, m]."""
        wide, high = bullet.getDebugVisualizerCamera(physicsClientId=self.client)[:2]
        if self._panel is None or not self._hung or high == 0:  # before its first picture, Bullet does not know
            return
        turned = quaternion_from_euler((math.radians(90.0 + pitch), 0.0, math.radians(yaw)))  # x right, y up
        eye = multiply(target, turned, (0.0, 0.0, distance), NO_ROTATION)[0]
        width, height = self._panel_size
        pixel = 2.0 * PANEL_AT / self.height  # what the quad was made for: in a larger window it is larger
        x = (0.5 * width + PANEL_MARGIN) * pixel - PANEL_AT * wide / high
        y = PANEL_AT - (0.5 * height + PANEL_MARGIN) * pixel
        place = multiply(eye, turned, (x, y, -PANEL_AT), NO_ROTATION)
        bullet.resetBasePositionAndOrientation(self._panel, *place, self.client)

    def put_panel_away(self) -> None:
        """Hides the panel until it is shown again."""
        self._hung = False
        if self._panel is not None:
            bullet.resetBasePositionAndOrientation(self._panel, (0.0, 0.0, -100.0), NO_ROTATION, self.client)

    def close(self) -> None:
        """Closes the window; calling it again does nothing."""
        if self.client >= 0:
            with silenced(STDOUT, STDERR):
                if bullet.isConnected(self.client):
                    bullet.disconnect(self.client)
            self.client = -1


def _apart(urdf: Path) -> bytes:
    """Returns a URDF in which every link has visual shapes of one material alone; the others are fixed to it."""
    robot = ElementTree.parse(urdf).getroot()
    for mesh in robot.iter("mesh"):
        mesh.set("filename", str(urdf.parent / mesh.get("filename", "")))
    for link in robot.findall("link"):
        name, links = link.get("name", ""), {}
        for shape in link.findall("visual"):
            material = shape.find("material")
            worn = b"" if material is None else ElementTree.tostring(material).strip()
            if not links:
                links[worn] = link
            elif worn not in links:
                links[worn] = ElementTree.SubElement(robot, "link", name=f"{name}, colour {len(links)}")
                joint = ElementTree.SubElement(robot, "joint", name=links[worn].get("name", ""), type="fixed")
                ElementTree.SubElement(joint, "parent", link=name)
                ElementTree.SubElement(joint, "child", link=links[worn].get("name", ""))
            if links[worn] is not link:
                link.remove(shape)
                links[worn].append(shape)
    return ElementTree.tostring(robot)
