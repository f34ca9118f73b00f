"""What is measured of a model, one family a file; the runner says when, tasks say which."""
