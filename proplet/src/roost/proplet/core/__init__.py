"""All decisions of a proplet, without clock or I/O.

==============  ==============================================================
``events``      what can happen
``effects``     what can be wanted
``states``      what is remembered of each task
``happenings``  what an event means to a task
``reports``     what is told of it
``lifecycle``   the table of one task's transitions
``proplet``     many tasks: run slots, presence, the connection
==============  ==============================================================
"""
