"""What stock clients run, as more than one test has them."""

RUN = """
    import sys
    import mlflow

    mlflow.set_experiment(sys.argv[1])
    with mlflow.start_run() as run:
        mlflow.log_param("colour", "green")
        mlflow.log_metric("loss", 0.25, step=7)
        mlflow.log_text("hello", "hello.txt")
    print(run.info.run_id, run.info.experiment_id)
"""
ROUND_TRIP = """
    import hashlib, pathlib, sys, tempfile, time
    import mlflow

    megabytes, name = int(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as place:
        source = pathlib.Path(place, "data.bin")
        digest = hashlib.sha256()
        with source.open("wb") as stream, open("/dev/urandom", "rb") as random:
            for _ in range(megabytes):
                piece = random.read(1 << 20)
                digest.update(piece)
                stream.write(piece)
        mlflow.set_experiment(name)
        with mlflow.start_run() as run:
            begun = time.monotonic()
            mlflow.log_artifact(str(source), "large")
            up = time.monotonic() - begun
        begun = time.monotonic()
        back = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="large/data.bin")
        down = time.monotonic() - begun
        again = hashlib.sha256(pathlib.Path(back).read_bytes()).hexdigest()
    assert again == digest.hexdigest(), "another content came back"
    print(run.info.run_id, again, f"up {up:.2f} s, down {down:.2f} s")
"""
