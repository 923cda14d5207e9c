"""Results in, tables, figures and a page out. Reads results only; opens no data, no device."""
