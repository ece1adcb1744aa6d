"""Lets a person watch a policy at work."""
