"""What every Roost service shares: MQTT session, runner, settings, logs, metrics, health.

Error tree of this package::

    ChassisError
    ├── BrokerRefused       the broker turned the connection or a publish down
    ├── FetchTimeout        a retained topic or a blob's chunk did not come in time
    │   └── BrokerAway      there is no connection to the broker
    ├── BlobCorrupt         a blob's bytes do not have its digest
    ├── StateLocked         another process uses the state folder
    ├── StateDamaged        the state's file cannot be read
    ├── StateNewer          the state was written by a newer Roost
    └── TrustUnusable       a certificate or key file cannot be used
"""
