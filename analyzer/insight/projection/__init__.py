"""What a measured kernel would take on another GPU: a roofline ratio calibrated on public latencies, with its interval."""
