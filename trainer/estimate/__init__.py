"""What a run will need before it is started: memory, communication, time, and settings that fit."""
