"""Backbones, the encoder around them, batch norm over workers, OpenOOD's checkpoint keys."""
