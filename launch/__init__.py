"""One thin file per command: parsing and wiring only."""
