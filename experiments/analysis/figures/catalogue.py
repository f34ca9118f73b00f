"""Every figure by its name. A new one is a file here and a line in `FIGURES`."""

from __future__ import annotations

from types import ModuleType

from experiments.analysis.figures import (
    basic,
    batch_size,
    best_settings,
    betas,
    diffusion,
    glue,
    imagen,
    imagenet,
    in_context,
    jft,
    jft_compute,
    landscape,
    language,
    lion_speed,
    lit,
    lr_wd_heatmaps,
    noise_gains,
    optimizers,
    optimizers_since_2023,
    program_search,
    proxies,
    regime_map,
    retrieval,
    search_ablation,
    search_betas,
    search_discovered,
    search_funnel,
    search_lineage,
    search_rediscovery,
)

SEARCHES: dict[str, ModuleType] = {
    "program_search": program_search,
    "search_lineage": search_lineage,
    "search_rediscovery": search_rediscovery,
    "search_betas": search_betas,
    "search_funnel": search_funnel,
    "search_ablation": search_ablation,
}
"""Figures of program searches; each has `draw_study(tables)`, too, for any study of them."""

FIGURES: dict[str, ModuleType] = {
    "proxies": proxies,
    "lr_wd_heatmaps": lr_wd_heatmaps,
    "best_settings": best_settings,
    "noise_gains": noise_gains,
    "batch_size": batch_size,
    "regime_map": regime_map,
    "betas": betas,
    "optimizers": optimizers,
    "optimizers_since_2023": optimizers_since_2023,
    "landscape": landscape,
    "imagenet": imagenet,
    "jft": jft,
    "jft_compute": jft_compute,
    "lit": lit,
    "retrieval": retrieval,
    "basic": basic,
    "diffusion": diffusion,
    "imagen": imagen,
    "language": language,
    "in_context": in_context,
    "glue": glue,
    "lion_speed": lion_speed,
    **SEARCHES,
    "search_discovered": search_discovered,
}
"""Each has TITLE, `table(results)`, the tidy numbers, and `draw(results)`, the figure."""
