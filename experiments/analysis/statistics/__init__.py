"""Statistics on tables of runs: plain functions that know nothing of figures or files."""
