"""The claims of the paper, each beside what is known of it here."""
