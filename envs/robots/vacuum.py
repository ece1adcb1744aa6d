"""Round vacuum cleaner of the class of the iRobot Create 2; sources of the numbers are in its URDF."""

from physai_envs.control import DifferentialDrive
from physai_envs.robot import RobotModel

RADIUS = 0.17  # m
HEIGHT = 0.046  # m, of the base frame above the floor
SCAN_HEIGHT = 0.101  # m, of the scanning plane above the floor
WHEEL_RADIUS = 0.036  # m

VACUUM = RobotModel(
    name="vacuum",
    urdf="robots/vacuum.urdf",
    joints=("left_wheel", "right_wheel"),
    home=(0.0, 0.0),
    base_position=(0.0, 0.0, HEIGHT),
    fixed_base=False,
)

# It could drive at 0.5 m/s; such robots clean at 0.3 to 0.4 m/s. The torque pushes with 11 N a wheel.
DRIVE = DifferentialDrive(
    wheels=VACUUM.joints,
    radius=WHEEL_RADIUS,
    track=0.235,
    speed=0.4,
    reverse=0.2,
    yaw_rate=2.0,
    acceleration=(1.0, 8.0),
    torque=0.4,
)
