"""Handing runs to whoever starts their processes: SLURM, deepspeed over ssh, or this host."""
