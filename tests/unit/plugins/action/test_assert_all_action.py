# Copyright: the mlops.mlflow maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the action plugin assert_all: what is evaluated and when, and how a play shows it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.utils.yaml import from_yaml
from ansible.template import Templar, trust_as_template
from ansible_collections.mlops.mlflow.plugins.action import assert_all

HOLDS = "{name: holds, that: true, fail_msg: x}"
FAILS = "{name: fails, that: false, fail_msg: never}"
ERROR = "lookup('ansible.builtin.env', 1 / 0)"

PLAY = """
- hosts: all
  gather_facts: false
  ignore_errors: true
  vars:
    given: "{{ 'a' ~ 'b' }}"
    listed: [1, 2]
  tasks:
    - name: well
      mlops.mlflow.assert_all:
        assertions:
          - {name: one, that: given == 'ab', fail_msg: "{{ unknown }}"}
          - {name: two, that: item < 3, fail_msg: "{{ item }} of {{ unknown }}", loop: "{{ listed }}"}
    - name: refused
      mlops.mlflow.assert_all:
        assertions:
          - {name: one, that: given == 'ab', fail_msg: "{{ unknown }}"}
          - {name: two, that: __given != 'ab', fail_msg: "given is '{{ __given }}'", vars: {__given: "{{ given }}"}}
          - {name: three, that: unknown, fail_msg: "{{ unknown }}"}
    - name: broken
      mlops.mlflow.assert_all:
        assertions:
          - {name: one, that: unknown > 1, fail_msg: x}
    - name: after
      mlops.mlflow.assert_all:
        assertions:
          - {name: one, that: not (__given is defined or item is defined), fail_msg: left behind}
"""


@pytest.fixture
def check():
    """Give a function that runs the action with assertions in YAML, as a file of tasks has them."""

    def runner(*assertions, check_mode=False, **variables):
        loader = DataLoader()
        args = from_yaml(data=trust_as_template(f"assertions: [{', '.join(assertions)}]"))
        args = {
            name: assert_all.ActionModule.finalize_task_arg(name, value, None, None) for name, value in args.items()
        }
        return assert_all.ActionModule(
            task=SimpleNamespace(args=args, async_val=0, check_mode=check_mode, action="assert_all"),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
            play_context=None,
            loader=loader,
            templar=Templar(loader=loader, variables=variables),
        ).run(task_vars=variables)

    return runner


@pytest.fixture
def trusted():
    """Give a function that makes a value a template, as one of an inventory is."""
    return trust_as_template


# --- one after the other ---


def test_nothing_is_said_where_all_hold(check):
    assert check(HOLDS, HOLDS) == {"changed": False}


def test_the_first_that_does_not_hold_is_told(check):
    result = check(HOLDS, "{name: one, that: false, fail_msg: first}", "{name: two, that: false, fail_msg: second}")
    assert result == {"failed": True, "assertion": "one", "msg": "first"}


def test_nothing_is_evaluated_after_it(check):
    broken = f"{{name: b, that: {json.dumps(ERROR)}, fail_msg: x}}"
    assert check(FAILS, broken)["msg"] == "never"
    with pytest.raises(AnsibleActionFail, match="'b' can't be evaluated"):
        check(HOLDS, broken)


def test_an_assertion_may_rely_on_one_before(check):
    assertions = (
        "{name: form, that: [given is mapping, given | list | length > 0], fail_msg: 'given is {{ given }}'}",
        "{name: part, that: given.part > 1, fail_msg: 'part is {{ given.part }}'}",
    )
    assert check(*assertions, given=5)["msg"] == "given is 5"
    assert check(*assertions, given={"part": 1})["msg"] == "part is 1"
    assert check(*assertions, given={"part": 2}) == {"changed": False}


def test_conditions_after_one_that_does_not_hold_are_not_evaluated(check):
    assert check("{name: a, that: [false, unknown > 1], fail_msg: never}")["msg"] == "never"


def test_a_message_is_filled_in_only_where_it_is_needed(check):
    assert check("{name: a, that: true, fail_msg: '{{ unknown }}'}") == {"changed": False}
    with pytest.raises(AnsibleActionFail) as error:
        check("{name: a, that: false, fail_msg: '{{ unknown }}'}")
    assert str(error.value) == "The assertion 'a' can't be evaluated: 'unknown' is undefined"


def test_a_message_is_a_text(check):
    assert check("{name: a, that: false, fail_msg: '{{ 5 }}'}")["msg"] == "5"


# --- when, vars, loop ---


@pytest.mark.parametrize("when", ["false", "given == 2", "[given == 1, false]", "[false, unknown > 1]"])
def test_one_that_is_left_out_is_not_evaluated(check, when):
    assertion = f"{{name: a, that: unknown > 1, fail_msg: '{{{{ unknown }}}}', when: {when}}}"
    assert check(assertion, given=1) == {"changed": False}
    assert check(assertion, FAILS, given=1)["assertion"] == "fails"


@pytest.mark.parametrize("when", ["true", "given == 1", "[given == 1, true]"])
def test_one_that_is_not_left_out_is_evaluated(check, when):
    assert check(f"{{name: a, that: false, fail_msg: never, when: {when}}}", given=1)["failed"]


def test_variables_are_evaluated_where_they_are_read(check):
    vars_ = "vars: {one: '{{ given ~ 1 }}', two: '{{ one ~ 2 }}', three: '{{ unknown }}'}"
    assert check(f"{{name: a, that: false, fail_msg: '{{{{ two }}}}', {vars_}}}", given="g")["msg"] == "g12"


def test_variables_are_the_assertions_own(check):
    own = "{name: a, that: given == 2, fail_msg: '{{ given }}', vars: {given: 2, more: 3}}"
    after = "{name: b, that: [given == 1, more is undefined], fail_msg: '{{ given }}'}"
    assert check(own, after, given=1) == {"changed": False}


def test_variables_may_decide_whether_it_is_left_out(check):
    assert check("{name: a, that: false, fail_msg: never, vars: {asked: false}, when: asked}") == {"changed": False}


@pytest.mark.parametrize("loop", ["[1, 2, 3]", "'{{ given }}'", "['{{ given[0] }}', 2, 3]"])
def test_a_loop_ends_at_the_first_that_does_not_hold(check, loop):
    assertion = f"{{name: a, that: item < 2, fail_msg: '{{{{ item }}}} of {{{{ twice }}}}', loop: {loop}, "
    result = check(assertion + "vars: {twice: '{{ item * 2 }}'}}", given=[1, 2, 3])
    assert result == {"failed": True, "assertion": "a", "msg": "2 of 4"}


def test_a_loop_over_nothing_holds(check):
    assert check("{name: a, that: false, fail_msg: never, loop: []}") == {"changed": False}


def test_an_element_may_be_left_out(check):
    assertion = "{name: a, that: item < 2, fail_msg: '{{ item }}', loop: [1, 2, 3], when: item != 2}"
    assert check(assertion)["msg"] == "3"


def test_an_element_is_gone_after_the_loop(check):
    assert check(
        "{name: a, that: item, fail_msg: x, loop: [true]}", "{name: b, that: item is undefined, fail_msg: x}"
    ) == {"changed": False}


def test_what_a_loop_lacks_does_not_matter_where_it_is_left_out(check):
    assertion = "{name: a, that: item, fail_msg: x, loop: '{{ unknown }}', when: given}"
    assert check(assertion, given=False) == {"changed": False}
    with pytest.raises(AnsibleActionFail, match="'a' can't be evaluated") as error:
        check(assertion, given=True)
    assert "'unknown' is undefined" in str(error.value)


def test_a_loop_is_a_list(check):
    with pytest.raises(AnsibleActionFail) as error:
        check("{name: a, that: true, fail_msg: x, loop: '{{ given }}'}", given="text")
    assert str(error.value) == "The assertion 'a' can't be evaluated: Its loop is no list."


# --- what can't be evaluated ---


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("unknown > 1", "'unknown' is undefined"),
        ("given > 1", "'>' not supported between instances"),
        ("given | length", "Conditionals must have a boolean result"),
        ("given is nosuchtest", "nosuchtest"),
        ("given is (", "Syntax error"),
    ],
)
@pytest.mark.parametrize("where", ["that", "when"])
def test_an_error_says_which_assertion_and_why(check, condition, message, where):
    fields = {"name": "a", "that": True, "fail_msg": "x"} | {where: condition}
    with pytest.raises(AnsibleActionFail) as error:
        check(HOLDS, json.dumps(fields), given="text")
    assert str(error.value).startswith("The assertion 'a' can't be evaluated: ")
    assert message in str(error.value)


@pytest.mark.parametrize("field", ["that", "when"])
def test_a_value_that_is_not_trusted_is_no_condition(check, field):
    """Nobody outside of the inventory may have an expression evaluated."""
    fields = {"name": "a", "that": True, "fail_msg": "x"} | {field: "{{ given }}"}
    with pytest.raises(AnsibleActionFail, match="'a' can't be evaluated"):
        check(json.dumps(fields), given="1 == 1")


def test_a_value_that_is_not_trusted_is_shown_as_it_is(check, trusted):
    message = "{name: a, that: false, fail_msg: '{{ given }}'}"
    assert check(message, given="{{ 1 + 1 }}")["msg"] == "{{ 1 + 1 }}"
    assert check(message, given=trusted("{{ 1 + 1 }}"))["msg"] == "2"


# --- wrong arguments ---


@pytest.mark.parametrize(
    ("assertion", "message"),
    [
        ("{name: a, fail_msg: x}", "Assertion 2, 'a', lacks that."),
        ("{name: a, that: true}", "Assertion 2, 'a', lacks fail_msg."),
        ("{that: true, fail_msg: x}", "Assertion 2 lacks name."),
        ("{}", "Assertion 2 lacks name, that, fail_msg."),
        ("{name: a, taht: true, fail_msg: x}", "Assertion 2, 'a', has taht: any of name, that, "),
        ("{name: a, that: true, fail_msg: x, quiet: true}", "Assertion 2, 'a', has quiet: any of "),
        ("{name: a, that: true, fail_msg: [x]}", "Assertion 2, 'a', has a fail_msg that is no str."),
        ("{name: a, that: true, fail_msg: x, vars: [x]}", "Assertion 2, 'a', has a vars that is no dict."),
        ("{name: 1, that: true, fail_msg: x}", "Assertion 2, '1', has a name that is no str."),
        ("text", "Assertion 2 is no mapping."),
    ],
)
def test_a_wrong_assertion_is_told_before_any_is_evaluated(check, assertion, message):
    with pytest.raises(AnsibleActionFail) as error:
        check(FAILS, assertion)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "assertions is no list of assertions."),
        ({"assertions": []}, "assertions is no list of assertions."),
        ({"assertions": "{{ elsewhere }}"}, "assertions is no list of assertions."),
        ({"assertions": [{"name": "a", "that": True, "fail_msg": "x"}], "quiet": True}, "Invalid options .*: quiet"),
    ],
)
def test_it_takes_a_list_of_assertions_alone(args, message):
    action = assert_all.ActionModule(
        task=SimpleNamespace(args=args, async_val=0, check_mode=False, action="assert_all"),
        connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
        play_context=None,
        loader=None,
        templar=Templar(),
    )
    with pytest.raises(AnsibleError, match=message):
        action.run()


# --- in a play ---


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """What a play on a host that can't be reached shows, in check mode or not."""
    place = tmp_path_factory.mktemp("play")
    (place / "play.yml").write_text(PLAY)
    collections = str(pathlib.Path(assert_all.__file__).parents[5])
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "ANSIBLE_COLLECTIONS_PATH": collections}
    environment |= {"PYTHONPATH": collections, "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}

    def runner(*options):
        return subprocess.run(
            [
                pathlib.Path(sys.executable).with_name("ansible-playbook"),
                "-i",
                "nowhere.invalid,",
                "play.yml",
                *options,
            ],
            cwd=place,
            env={**environment, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    return {mode: runner(*options) for mode, options in {"run": [], "check": ["--check"]}.items()}


@pytest.mark.parametrize("mode", ["run", "check"])
def test_a_play_shows_the_message_and_no_more(played, mode):
    shown = dict(re.findall(r"^TASK \[(\w+)\] \*+\n(.*?)\n\n(?=TASK|PLAY)", played[mode], re.M | re.S))
    assert shown["well"] == "ok: [nowhere.invalid]"
    assert shown["after"] == "ok: [nowhere.invalid]"
    result = {name: " ".join(text.partition("FAILED! => ")[2].split()) for name, text in shown.items()}
    assert result["refused"] == ("assertion: two changed: false msg: given is 'ab' ...ignoring")
    assert result["broken"] == (
        "changed: false msg: 'The assertion ''one'' can''t be evaluated: Error while evaluating conditional: "
        "''unknown'' is undefined' ...ignoring"
    )
    assert "ok=4 " in played[mode]
    assert "unreachable=0" in played[mode]
