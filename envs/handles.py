"""What tasks share in which a gripper takes a piece of furniture by its handle.

They keep the `furniture`, which knows its `body` and where its `handle` is [m], and the `slip` so far [m] in
``scene.memory``, and a `ContactMeter` of arm and furniture in ``scene.sensors`` under the name `contact_of` its body.
"""

from __future__ import annotations

from physai_envs import terms
from physai_envs.engine import Vector
from physai_envs.geometry import norm, subtract
from physai_envs.task import Metric, Observation, Reward, Scene, shared
from physai_envs.world import Body

FLOOR = (0.80, 0.75, 0.68, 1.0)  # colour
FINGER_SPEED = 0.05  # m/s, of a finger
OPEN = 0.06  # m, more than this is an open gripper
BLOCKED_WIDTH = 0.006  # m, what fingers read at least around a bar, also beside its middle
FORCE_LIMIT = 250.0  # N
MARGIN = 0.3  # m, distance at which `nearness` is down to 0.1
STOP_COST = 40.0  # more than waiting for ever costs at the discount of 0.97: the force limit is no way out


def contact_of(body: Body) -> str:
    """Name of the sensor that measures how hard the arm and this piece of furniture press on each other."""
    return f"contact of {body.name}"


@shared
def tip_to_handle(s: Scene) -> Vector:
    """Vector from the tip to where the handle is to be held, world frame [m], (3,)."""
    return subtract(s.memory.furniture.handle, s.robot.tip_position)


def blocked(s: Scene, speed: float, force: float) -> bool:
    """Whether fingers slower than `speed` [m/s] are around a thing and press with half of `force` [N] or more."""
    width, opening = s.robot.tool_opening
    return width > BLOCKED_WIDTH and abs(opening) < speed and terms.gripper_force(s) < -0.5 * force


def nearness(s: Scene) -> float:
    """1 with the tip at the handle, 0.1 at 30 cm."""
    return terms.tolerance(norm(tip_to_handle(s)), 0.0, 0.0, MARGIN)


def time(s: Scene) -> float:
    """1 each step; its weight is the sum of the weights above, so that being done is worth more than any waiting."""
    return 1.0


def peak_force(s: Scene) -> float:
    """Largest sum of the contact forces between arm and furniture, the grip of both fingers included [N]."""
    return s.sensors[contact_of(s.memory.furniture.body)].peak


def pressed_too_hard(s: Scene) -> bool:
    """Whether the force limit ends the episode."""
    return peak_force(s) > FORCE_LIMIT


def stopped(s: Scene) -> float:
    """1 when the force limit ended the episode."""
    return float(pressed_too_hard(s))


def slip(s: Scene) -> float:
    """How far the handle has moved between the fingers since it was gripped [m]."""
    return s.memory.slip


def seconds(s: Scene) -> float:
    """From the start to the end [s]."""
    return s.time_s


FELT = (
    Observation("gripper_width", terms.gripper_width, (1,), "m", 0.0, 0.1, frame="hand", noise_std=0.0002),
    Observation("gripper_speed", terms.gripper_speed, (1,), "m/s", -0.2, 0.2, frame="hand", noise_std=0.002),
    Observation("gripper_force", terms.gripper_force, (1,), "N", -100.0, 100.0, frame="hand", noise_std=0.3),
)
COSTS = (Reward("time", time, weight=-1.0), Reward("stopped", stopped, weight=-STOP_COST))
METRICS = (Metric("slip", slip, "m"), Metric("peak_force", peak_force, "N"), Metric("time", seconds, "s"))
