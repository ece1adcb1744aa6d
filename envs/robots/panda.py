"""Seven-axis arm with the kinematics of the Franka Emika Panda, and its tools."""

from dataclasses import replace
from math import pi

from physai_envs.robot import RobotModel, Tool

PANDA = RobotModel(
    name="panda",
    urdf="robots/panda.urdf",
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    home=(0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4),  # rad, the "ready" pose of Franka's documentation
    flange=((0.0, 0.0, 0.107), (0.0, 0.0, -pi / 4)),  # m and rad in link 7, Franka Control Interface documentation
)

GRIPPER = Tool("tools/gripper.urdf", tip=(0.0, 0.0, 0.1034), open_joints=(0.04, 0.04))  # m, between the finger pads
PEG = Tool("tools/peg.urdf", tip=(0.0, 0.0, 0.1679))  # m, centre of the peg's end face

PANDA_GRIPPER = PANDA.with_tool(GRIPPER)
PANDA_HAND = PANDA.with_tool(replace(GRIPPER, open_joints=(), blocked=True))  # its fingers stay closed
PANDA_PEG = PANDA.with_tool(PEG, wrench=True)

TORCH = Tool("tools/torch.urdf", tip=(0.0, 0.0, 0.29))  # m, end of the wire: where the arc meets the work
PANDA_TORCH = PANDA.with_tool(TORCH)

SCREWDRIVER = Tool("tools/screwdriver.urdf", tip=(0.0, 0.0, 0.21), open_joints=(0.0, 0.0))  # m, end of the bit
PANDA_SCREWDRIVER = PANDA.with_tool(SCREWDRIVER)

GEAR = Tool("tools/gear.urdf", tip=(0.0, 0.0, 0.14))  # m, middle of the gear's lower face
PANDA_GEAR = PANDA.with_tool(GEAR, wrench=True)

# The hand points ahead and the fingers move up and down, as for the bar of a drawer. Elbow out to the side: there the
# joints are farthest from their limits for tips 0.35 to 0.65 m ahead and 0.5 to 0.7 m up (found by random search).
PANDA_AHEAD = replace(PANDA_GRIPPER, home=(1.075, -1.056, -0.848, -2.431, -2.278, 2.577, 0.781))  # rad

# The hand points ahead beside the arm, and keeps its wrist free to swing with a door: along the swing of 60 degrees no
# joint comes nearer than 0.25 rad to its limit and the arm stays in front of the leaf (found by random search).
PANDA_BESIDE = replace(
    PANDA.with_tool(GRIPPER, wrench=True), home=(2.125, 0.221, -0.444, -1.596, -1.452, 1.475, 1.011)
)  # rad
