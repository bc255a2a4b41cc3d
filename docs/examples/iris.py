"""Train on the iris data, log the run, register the model, load it back and predict.

Usage: source build/quickstart/env && python iris.py

A standard MLflow client, configured by MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
"""

import argparse
import tempfile
import warnings

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="iris", help="experiment to log to")
    parser.add_argument("--model", default="iris-classifier", help="name to register the model under")
    arguments = parser.parse_args()

    data = load_iris(as_frame=True)
    train_x, test_x, train_y, test_y = train_test_split(data.data, data.target, test_size=0.25, random_state=0)

    mlflow.set_experiment(arguments.experiment)
    with mlflow.start_run(run_name="logistic-regression") as run:
        parameters = {"C": 1.0, "max_iter": 200}
        model = make_pipeline(StandardScaler(), LogisticRegression(**parameters)).fit(train_x, train_y)
        predicted = model.predict(test_x)
        mlflow.log_params(parameters)
        mlflow.log_metrics(
            {"accuracy": accuracy_score(test_y, predicted), "f1": f1_score(test_y, predicted, average="macro")}
        )
        figure = ConfusionMatrixDisplay.from_predictions(test_y, predicted, display_labels=data.target_names).figure_
        mlflow.log_figure(figure, "confusion_matrix.png")
        plt.close(figure)
        logged = mlflow.sklearn.log_model(
            model, name="model", registered_model_name=arguments.model, input_example=test_x.head(3)
        )

    version = logged.registered_model_version
    print(f"Logged run {run.info.run_id} and registered {arguments.model} version {version}")

    with tempfile.TemporaryDirectory() as directory:
        loaded = mlflow.pyfunc.load_model(f"models:/{arguments.model}/{version}", dst_path=directory)
        again = loaded.predict(test_x)
    if list(again) != list(predicted):
        raise SystemExit("The model loaded from the registry predicts something else than the one that was logged")
    share = accuracy_score(test_y, again)
    print(f"Loaded it back from the registry: {share:.0%} of {len(test_y)} test samples are classified correctly")


if __name__ == "__main__":
    with warnings.catch_warnings():
        # The hint concerns missing integers; the classes have none.
        warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
        main()
