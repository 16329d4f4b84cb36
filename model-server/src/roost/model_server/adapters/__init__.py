"""Files and messages around the model server's core."""
