"""The program search that found the optimizer of the paper: language, evolution, funnel, proof."""
