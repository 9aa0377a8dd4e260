"""From files to token samples: read, clean, compare, build negatives, word, tokenise; in parallel,
resumable, cached by fingerprint.

``clean_unit`` turns one stretch of one file into a part of clean rows; ``clean_rows`` runs all of them and
compares the rows with each other; ``tokenise`` turns the clean rows into a sample store for the wording
of a phase.
"""
