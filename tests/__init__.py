"""A package by name: a `tests` that another distribution installs does not stand in its place."""
