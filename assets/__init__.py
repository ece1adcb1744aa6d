"""URDF files, trained policies and their licences. Data only."""
