"""The guard against steps that would spoil a model: non-finite ones, and losses that jump."""
