"""The small real tasks that programs are judged on; see `experiments.search.proxies.proxy`."""
