"""Where the manager touches the broker and the disk."""
