"""How a command becomes motor targets: the action terms that a task can declare, one file a kind.

A declaration is data; `bind` gives the controller of one robot. Commands are in SI units, already clipped and
rate-limited by `physai.spec.ActionMap`.
"""

from physai_envs.control.drive import DifferentialDrive
from physai_envs.control.eccentric import EccentricWheels
from physai_envs.control.gripper import GripperSpeed
from physai_envs.control.polar import PolarArm, PolarSpeed
from physai_envs.control.pull import CompliantPull
from physai_envs.control.spindle import SpindleSpeed
from physai_envs.control.steering import CarDrive
from physai_envs.control.term import ActionTerm, Controller
from physai_envs.control.trot import Leg, Trot
from physai_envs.control.twist import EndEffectorTwist
from physai_envs.control.vacuum import Vacuum

__all__ = [
    "ActionTerm",
    "CarDrive",
    "CompliantPull",
    "Controller",
    "DifferentialDrive",
    "EccentricWheels",
    "EndEffectorTwist",
    "GripperSpeed",
    "Leg",
    "PolarArm",
    "PolarSpeed",
    "SpindleSpeed",
    "Trot",
    "Vacuum",
]
