"""Ray Train's workers: where there is room, what runs in each, what it means that some failed."""
