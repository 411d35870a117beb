"""`tracehub up`: everything in one terminal, started, watched and stopped in order."""
