"""Ansible's finder of collections is in place before any test imports one: it can't be put in later."""

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([])
