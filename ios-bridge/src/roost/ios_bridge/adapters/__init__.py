"""Messages, files and HTTP around the bridge's core."""
