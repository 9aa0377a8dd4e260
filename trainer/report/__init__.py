"""Reports: one page for a run, one for several side by side."""
