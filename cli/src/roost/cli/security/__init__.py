"""A broker that devices reach: its certificates, users, rights and configuration.

Everything lies in one folder, written by `roost broker setup` and by nothing else:

    site.json          what the rest is generated from: addresses, ports, prefix, workloads
    users.json         who may connect, as what; passwords as hashes
    ca.pem  ca-key.pem certificate and key of the folder's own authority (none if given ones serve)
    server.pem  server-key.pem
    store/             what mosquitto writes
    mosquitto.conf  devices.passwd  people.passwd  everyone.passwd  acl
    services/NAME.env  people/NAME.env    settings of those who connect, with their passwords
    links.pem          newer authorities as signed by older ones
    invites/           one file an invitation, named by the hash of its token
"""
