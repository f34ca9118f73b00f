"""What is learnt: one file per family of tasks, all with the contract of `task.py`."""
