"""Config boundary, curriculum, loss, ZeRO engine, loop, evaluation and reports. Knows no Hydra app."""
