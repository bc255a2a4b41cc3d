"""Each patch of the server package is installed: the versions in the image have what it replaces."""


def test_no_part_is_missing(stack):
    pods = stack.ready("mlflow")
    assert pods
    for pod in pods:
        log = stack.kubectl("-n", "mlflow", "logs", pod.metadata.name, "--all-containers", "--tail=-1")
        assert "does not fit" not in log
