"""What a phone does as specs/phone.md says, as a function without clock or I/O."""
