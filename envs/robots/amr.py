"""Differential-drive logistics robot of the class of the MiR250; sources of the numbers are in its URDF."""

from physai_envs.control import DifferentialDrive
from physai_envs.robot import RobotModel

HALF_LENGTH, HALF_WIDTH = 0.40, 0.29  # m
HEIGHT = 0.15  # m, of the base frame above the floor
SCAN_HEIGHT = 0.191  # m, of the scanning plane above the floor
RADIUS = (HALF_LENGTH**2 + HALF_WIDTH**2) ** 0.5  # m, of the circle that the turning robot sweeps
MASS = 97.0  # kg, of the base with its battery

AMR = RobotModel(
    name="amr",
    urdf="robots/amr.urdf",
    joints=("left_wheel", "right_wheel"),
    home=(0.0, 0.0),
    base_position=(0.0, 0.0, HEIGHT),
    fixed_base=False,
)

# The data sheet allows 2.0 m/s; where people and carts share the hall, 1.2 m/s is usual. The torque moves the robot and
# 250 kg at 1.4 m/s2, and with 40 % of it lost still at 0.8 m/s2.
DRIVE = DifferentialDrive(
    wheels=AMR.joints,
    radius=0.1,
    track=0.403,
    speed=1.2,
    reverse=0.3,
    yaw_rate=1.2,
    acceleration=(1.2, 3.0),
    torque=25.0,
)
