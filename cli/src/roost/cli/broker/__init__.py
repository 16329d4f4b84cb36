"""The MQTT broker of a local Roost: which one, how it is configured, how it is started."""

from roost.cli.broker.choice import BrokerPlan, parse_url, plan_broker
from roost.cli.broker.mosquitto import find_mosquitto, mosquitto_version

__all__ = ["BrokerPlan", "find_mosquitto", "mosquitto_version", "parse_url", "plan_broker"]
