"""The report: a folder of static pages that work from the file system, without a server."""
