"""What we ask for: frozen, strict settings read from YAML. No torch here."""
