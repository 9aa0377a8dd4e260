"""Rows in, planned and packed batches out. Knows no model, no DeepSpeed and no Hydra."""
