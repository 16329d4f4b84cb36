"""Makes iPhones and iPads look like proplets to everyone else (specs/phone.md).

Error tree of this package::

    BridgeError
    ├── NotToBeHad      an image or an input could not be had, or may not be used here
    └── GuardRefused    a phone sent to the broker what a phone may not
"""
