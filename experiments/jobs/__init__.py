"""What can be asked of a finished run, one file a job."""
