"""What a proplet does to the world: fetching, running, sending, sampling."""
