"""What a device can do: datasheet figures, attainable figures, limits of its multiprocessors."""
