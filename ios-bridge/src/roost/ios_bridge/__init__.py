"""Makes iPhones and iPads look like proplets to everyone else (specs/phone.md).

Error tree of this package::

    BridgeError
    ├── NotToBeHad      an image or an input could not be had, or may not be used here
    ├── OutputRefused   the broker will never take an output
    └── GuardRefused    a phone sent to the broker what a phone may not
"""
