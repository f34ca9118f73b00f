"""Models that timm lacks. Everything else is named in conf/ by its path in timm."""
