"""Mid-size saloon; sources of its dimensions are in its URDF."""

from collections.abc import Callable

from physai_envs.control import CarDrive
from physai_envs.parts.bicycle import CarData, DynamicBicycle, KinematicBicycle
from physai_envs.robot import RobotModel
from physai_envs.task import Scene

HALF_LENGTH, HALF_WIDTH = 2.315, 0.89  # m
MIDDLE = -0.275  # m, of the outline, ahead of the centre of gravity
STEERING_RATE = 0.4  # rad/s at the front wheels: M. Althoff, "CommonRoad: Vehicle Models", 2020, vehicle 2

CAR = RobotModel(
    name="car",
    urdf="robots/car.urdf",
    joints=("left_steering", "right_steering"),
    home=(0.0, 0.0),
)

# Mass, inertia, axles and stiffness (80 kN/rad a tyre): R. Rajamani, "Vehicle Dynamics and Control", 2nd edition,
# 2012, chapter 3; such a car understeers by 1 degree per g. Height of the centre of gravity and aerodynamics (drag
# coefficient 0.30, side force 2.3 a rad, frontal area 2.2 m2): common values of a saloon, W.-H. Hucho, "Aerodynamics of
# Road Vehicles", 4th edition, 1998.
CAR_DATA = CarData(
    mass=1573.0,
    yaw_inertia=2873.0,
    front=1.1,
    rear=1.58,
    height=0.55,
    front_stiffness=160_000.0,
    rear_stiffness=160_000.0,
    drag_area=0.66,
    side_area=5.1,
    side_arm=0.3,
    rolling=0.012,
)

# On the road: brakes and engine as an automatic driver uses them; jerk as comfort allows in an emergency.
ROAD_DRIVE = CarDrive(
    model=lambda: DynamicBicycle(CAR_DATA),
    joints=CAR.joints,
    middle=MIDDLE,
    steering=0.25,
    acceleration=(-4.0, 2.0),
    rates=(STEERING_RATE, 10.0),
    speeds=(0.0, 30.0),
)

# When parking: the largest angle gives the turning circle of 10.8 m between kerbs that the maker states.
PARKING_DRIVE = CarDrive(
    model=lambda: KinematicBicycle(CAR_DATA),
    joints=CAR.joints,
    middle=MIDDLE,
    steering=0.6,
    acceleration=(-2.0, 2.0),
    rates=(STEERING_RATE, 10.0),
    speeds=(-1.5, 2.5),
)


def set_motion(name: str) -> Callable[[Scene, float], None]:
    """Returns a function that sets an attribute of the motion model, for a randomisation."""
    return lambda s, value: setattr(s.robot.drive.motion, name, value)
