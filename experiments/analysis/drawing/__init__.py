"""How figures look: style, names, and panels that several figures share."""
