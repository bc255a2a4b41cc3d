"""The lookup that renders the templates of components."""

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template


def render(components, **variables):
    """What a task with these variables gets for these components."""
    variables |= {"components": components}
    templar = Templar(loader=DataLoader(), variables=variables)
    return templar.template(trust_as_template("{{ query('mlops.mlflow.manifests', *components) }}"))


@pytest.fixture
def component(tmp_path):
    """Makes a component of a role's folder with these templates."""

    def make(name, **templates):
        role = tmp_path / name
        (role / "templates").mkdir(parents=True)
        (role / "files").mkdir()
        for stem, text in templates.items():
            (role / "templates" / f"{stem}.yaml.j2").write_text(text)
        return {"name": name, "path": str(role), "manifests": [f"{stem}.yaml.j2" for stem in templates]}

    return make


HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"


def test_each_component_has_its_objects_in_order(component):
    one = component("one", b=HEAD % "{{ word }}" + "---\n" + HEAD % "second", a=HEAD % "third")
    two = component("two", a="{% if word == 'other' %}\n" + HEAD % "off" + "{% endif %}\n")
    found = render([one, two], word="first")
    assert [[each["metadata"]["name"] for each in objects] for objects in found] == [["first", "second", "third"], []]


def test_policies_are_there_before_the_pods(component):
    made = component("one", a=HEAD % "namespace" + "---\n" + HEAD % "pods") | {
        "edge_objects": [{"metadata": {"name": "door"}}],
        "policies": [{"metadata": {"name": "deny"}}],
    }
    (objects,) = render([made])
    assert [each["metadata"]["name"] for each in objects] == ["namespace", "deny", "door", "pods"]


def test_files_and_templates_are_those_of_the_component(component):
    text = HEAD % "x" + "data: {file: {{ lookup('ansible.builtin.file', 'f') }}, role: {{ role_path | basename }}}\n"
    components = [component(name, a=text) for name in ("one", "two")]
    for each in components:
        with open(f"{each['path']}/files/f", "w") as stream:
            stream.write(f"of-{each['path'].rpartition('/')[2]}")
    found = render(components, ansible_search_path=["/nowhere"])
    assert [objects[0]["data"] for objects in found] == [
        {"file": "of-one", "role": "one"},
        {"file": "of-two", "role": "two"},
    ]


def test_text_passes_as_it_is(component):
    (objects,) = render(
        [component("one", a=HEAD % "x" + "data: {script: {{ script | to_json }}}\n")], script="a\\n{b} $(c)\n"
    )
    assert objects[0]["data"]["script"] == "a\\n{b} $(c)\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "render to what is no YAML"),
        ("just text", "something else than Kubernetes objects"),
        ("kind: X", "something else than Kubernetes objects"),
        (HEAD % "{{ not_defined }}", "not_defined"),
    ],
)
def test_what_is_no_manifest_is_refused(component, text, message):
    with pytest.raises(AnsibleError, match=message):
        render([component("one", a=text)])


def test_a_template_that_is_missing_is_named(component):
    with pytest.raises(AnsibleError, match=r"b\.yaml\.j2"):
        render([component("one", a="") | {"manifests": ["b.yaml.j2"]}])
