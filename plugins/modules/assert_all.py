#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(assert_all)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: assert_all
short_description: Checks many assertions in one task
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Does what a task of M(ansible.builtin.assert) for each assertion would do, in the time of one task.
  - Goes through the assertions in their order, and ends with the message of the first that does not hold.
  - Conditions, variables and lists are evaluated when it is the assertion's turn, so that it may rely on those before
    it. A message is filled in only where its assertion does not hold.
  - Runs on the control node.
options:
  assertions:
    description: What has to hold. Each is checked for its form before the first is evaluated.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What is checked, as the name of a task says it. It is part of the result where it does not hold.
        type: str
        required: true
      that:
        description: A condition, or a list of conditions which all have to hold.
        type: raw
        required: true
      fail_msg:
        description: What to say where it does not hold.
        type: str
        required: true
      when:
        description: A condition, or a list of them; the assertion is left out where one of them does not hold.
        type: raw
      vars:
        description: Variables of the assertion alone.
        type: dict
      loop:
        description: A list, or a template of one. The assertion has to hold for each element, which is C(item).
        type: raw
attributes:
  check_mode:
    description: Checks the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check what was asked for
  mlops.mlflow.assert_all:
    assertions:
      - name: Check the replicas
        that:
          - replicas | string is match('^[0-9]+$')
          - replicas | int >= 1
        fail_msg: "replicas is '{{ replicas }}': a number, 1 or more"
      - name: Check the form of the users
        that:
          - users is sequence
          - users is not string
          - users is not mapping
        fail_msg: "users is {{ users | to_json }}: a list of names"
      - name: Check the users
        that: item is match('^[a-z]+$')
        fail_msg: "users has the name '{{ item }}': lower-case letters"
        loop: "{{ users }}"
      - name: Check the port on the nodes
        that: __port | string is match('^3[0-9]{4}$')
        fail_msg: "node_port is '{{ __port }}': a port from 30000 on"
        vars:
          __port: "{{ node_port | default('') }}"
        when: service_type == 'NodePort'
"""

RETURN = r"""
assertion:
  description: Name of the assertion that does not hold.
  returned: when one does not hold
  type: str
msg:
  description: What there is to say about it.
  returned: when one does not hold
  type: str
"""
