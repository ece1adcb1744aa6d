"""Four-axis SCARA robot with a suction cup; sources of the numbers are in its URDF."""

from math import pi

from physai_envs.robot import RobotModel, Tool

SCARA = RobotModel(
    name="scara",
    urdf="robots/scara.urdf",
    joints=("shoulder", "elbow", "quill", "spindle"),
    home=(-0.9, 1.6, 0.0, -0.7),  # rad and m: the cup in front of the robot, the elbow to the right
    flange=((0.0, 0.0, -0.02), (pi, 0.0, 0.0)),  # m and rad in the spindle's frame: the tool points down
)

CUP = Tool("tools/suction_cup.urdf", tip=(0.0, 0.0, 0.05))  # m, the lip

SCARA_SUCTION = SCARA.with_tool(CUP)
