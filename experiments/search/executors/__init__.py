"""Where programs are judged: in this process, in others, on other machines."""
