"""Phone protocol: what phones and their bridge say to each other (specs/phone.md)."""
