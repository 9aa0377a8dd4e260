"""What a step took: time by part, memory, share of the hardware's peak, and traces of the profiler.

Meters never make the host wait for the device, and never change what is trained. ``docs/meters.md`` says
what each figure means.
"""
