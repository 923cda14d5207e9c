"""Embed once per image set, score, measure: validation sets for a search, test sets for the end."""
