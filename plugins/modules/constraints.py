#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(constraints)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: constraints
short_description: Checks the variables of a role against patterns and ranges
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Checks what an argument spec cannot express, by C(meta/constraints.yml) of the role that the task is in.
  - Runs on the control node, and names all values that are wrong.
options:
  variables:
    description: The variables to check. The default is all that the file names.
    type: list
    elements: str
notes:
  - C(meta/constraints.yml) is a mapping of paths to constraints.
  - A path is a variable and what it contains. C([]) is each element of a list, C({}) each key of a mapping,
    C(.*) each of its values, and C(.name) one of them, if it is present.
  - A constraint has C(format) or C(pattern), or C(min) and C(max) for a number, and C(description), which messages use.
  - C(excluding) lists values that are refused, and C(unique) refuses a value that is there more than once.
  - C(empty) allows an empty value or refuses an empty list, and C(string) refuses a value that is not a string.
  - C(no_log) keeps the value out of messages, and C(when) is a condition.
attributes:
  check_mode:
    description: Checks the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
# roles/example/meta/constraints.yml:
#   example_cpu: {format: cpu}
#   example_replicas: {min: 1, max: 100}
#   example_users[].name: {pattern: "[a-z]{3,63}", description: 3 to 63 lower-case letters, unique: true}
- name: Check the values
  mlops.mlflow.constraints:
"""

RETURN = r"""
msg:
  description: A line for each value that is wrong, with the variable, its value and what it may be.
  returned: when a value is wrong
  type: str
  sample: "example_cpu is 'lots': cores as Kubernetes writes them, such as 250m or 2"
"""
