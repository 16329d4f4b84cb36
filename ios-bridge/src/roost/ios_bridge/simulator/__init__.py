"""A phone without a phone: for tests, and for demonstrations.

``core`` decides what a phone does, as specs/phone.md says, without clock or I/O; ``body`` is a
battery that drains and charges, and a case that gets warm; ``client`` speaks MQTT and HTTP to a
bridge; ``life`` puts them together.
"""
