"""The laboratory: how the optimizers of this suite are trained, measured and compared."""
