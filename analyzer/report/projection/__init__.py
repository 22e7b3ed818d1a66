"""The report on what runs would take on other GPUs."""
