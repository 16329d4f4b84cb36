"""Model versions on disk and as retained MQTT messages; never overwritten, bounded, indexed."""
