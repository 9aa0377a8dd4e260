"""Configuration: the typed tree, the strict merge onto it, and the rules between its fields."""
