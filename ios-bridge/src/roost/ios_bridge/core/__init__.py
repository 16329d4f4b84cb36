"""All decisions of the bridge, without clock or I/O.

==============  ==============================================================
``events``      what can happen
``effects``     what can be wanted
``states``      what is remembered of phones, invitations and tasks
``happenings``  what an event means to a task
``reports``     what the manager is told of it
``actions``     what each happening does to a task
``lifecycle``   the table of one task's transitions on one phone
``draft``       a decision in the making
``phones``      what a phone says: its sleep, its readings, its orders
``pairing``     invitations, secrets, revocation
``bridge``      many phones: the connection, the lists
``guard``       what a phone may send to the broker
==============  ==============================================================
"""
