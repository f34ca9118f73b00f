"""One's own sweep: its picks, how they compare, figures and a page."""
