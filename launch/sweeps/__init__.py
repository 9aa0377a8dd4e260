"""Many runs by one command: grids and searches, their first phases shared, here or as SLURM's jobs."""
