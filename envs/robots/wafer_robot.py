"""Wafer-handling robot with a lift, two equal links and a fork; sources of the numbers are in its URDF."""

from physai_envs.control.polar import PolarArm, PolarSpeed
from physai_envs.robot import RobotModel

ARM = PolarArm(link=0.235, fork=0.27)  # m, from axis to axis, and from the wrist to the centre of the wafer
RETRACTED = 0.355  # m, of the wafer's centre from the axis of the robot
PADS = 0.4  # m, height of the top of the fork's pads with the lift down

WAFER_ROBOT = RobotModel(
    name="wafer_robot",
    urdf="robots/wafer_robot.urdf",
    joints=("lift", "shoulder", "elbow", "wrist"),
    home=(0.0, *ARM.joints(0.0, RETRACTED)),
)

# The ramps are those with a wafer: each alone is within the 2.45 m/s2 that the least friction bears, so that a command
# that comes late, and is made up for by a larger one, throws nothing off. Both together still do, and jerks on soft
# drives. Speeds fall within 8 cm of the taught place, to a thirtieth: every station of such a robot has an approach
# speed.
DRIVE = PolarSpeed(
    arm=ARM,
    swing=2.0,
    radial=0.8,
    lift=0.05,
    acceleration=(3.8, 1.7),
    radii=(RETRACTED - 0.015, 0.735),
    heights=(0.0, 0.03),
    slow_zone=0.08,
    slowest=0.03,
)
