"""Quadruped of the class of Boston Dynamics' Spot; sources of the numbers are in its URDF."""

from physai_envs.control import Leg, Trot
from physai_envs.robot import RobotModel

HIP_X, HIP_Y = 0.298, 0.055  # m
OFFSET, UPPER, LOWER, FOOT = 0.1109, 0.3205, 0.335, 0.032  # m; of the leg's plane, of its parts, radius of a foot
MASS, TOTAL_MASS = 16.5, 32.5  # kg, of the base, and with the legs
LEGS = ("front_left", "front_right", "rear_left", "rear_right")

TROT = Trot(
    legs=tuple(Leg((x * HIP_X, y * HIP_Y), y, OFFSET, UPPER, LOWER) for x in (1.0, -1.0) for y in (1.0, -1.0)),
    height=0.46,
    shift=-0.04,
    frequency=2.5,
    duty=0.6,
    clearance=0.1,
    speed=(1.0, 0.6, 1.0),
    reach=0.15,
    stretch=0.08,
    gain=0.08,
    torque=(45.0, 45.0, 113.0),
)

QUADRUPED = RobotModel(
    name="quadruped",
    urdf="robots/quadruped.urdf",
    joints=tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("hx", "hy", "kn")),
    home=TROT.stand(),
    base_position=(0.0, 0.0, TROT.height + FOOT),
    fixed_base=False,
)
