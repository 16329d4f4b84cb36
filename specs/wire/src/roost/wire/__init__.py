"""What every Roost protocol is written with: ids, topics, messages, refusals, blobs."""
