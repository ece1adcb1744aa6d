"""Droid on four eccentric wheels, of the class of Hyundai's MobED; sources of the numbers are in its URDF."""

from physai_envs.control import EccentricWheels
from physai_envs.robot import RobotModel

RADIUS = 0.1524  # m, of a 12-inch wheel
ECCENTRICITY = 0.05  # m, from an arm's pivot to its wheel's axle
PIVOT_X, WHEEL_Y = 0.275, 0.265  # m, of the pivots ahead of and of the wheels beside the middle
MASS, TOTAL_MASS = 32.0, 50.0  # kg, of the base and with arms and wheels
CORNERS = ("front_left", "front_right", "rear_left", "rear_right")

DROID = RobotModel(
    name="droid",
    urdf="robots/droid.urdf",
    joints=tuple(f"{corner}_{part}" for corner in CORNERS for part in ("arm", "wheel")),
    home=(0.0,) * 8,
    base_position=(0.0, 0.0, RADIUS),
    fixed_base=False,
)

# Four times the torque that carries the droid, so that it still climbs with a load; 15 rad/s are 2.3 m/s.
WHEELS = EccentricWheels(
    corners=CORNERS,
    arm_rate=8.0,
    wheel_speed=15.0,
    arm_torque=40.0,
    wheel_torque=30.0,
    arm_limit=1.3,
)
