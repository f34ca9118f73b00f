"""What will it cost? Counted on a model without weights and a batch without data."""
