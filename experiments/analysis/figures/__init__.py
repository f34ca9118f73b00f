"""One file per figure: `table(results)` gives the tidy numbers behind it, `draw(results)` it."""
