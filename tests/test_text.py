"""Counts in sentences."""

import pytest

from rwood.text import count_of, login_of, without_password


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 trials"), (1, "1 trial"), (1.0, "1 trial"), (0.5, "0.5 trials"),
     (1234567, "1,234,567 trials")],
)  # fmt: skip
def test_one_and_many(count: float, said: str) -> None:
    assert count_of(count, "trial") == said


def test_a_plural_of_its_own() -> None:
    assert [count_of(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("https://me:secret@mlflow:5000/a@b", "https://mlflow:5000/a@b"),
        ("postgresql://me:secret@h:5432/db", "postgresql://h:5432/db"),
        ("postgresql://me:se/cr?et@h/db", "postgresql://h/db"),
        ("mysql://me:p@q@host/db", "mysql://host/db"),
        ("mysql://host/db?passwd=secret", "mysql://host/db"),
        ("postgresql+psycopg2:///db?host=/run&password=secret", "postgresql+psycopg2:///db"),
        ("postgresql://h/db?sslmode=require", "postgresql://h/db?sslmode=require"),
        ("sqlite:////home/a@b/optuna.db", "sqlite:////home/a@b/optuna.db"),
        ("results/mlflow.db", "results/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_login(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_the_login_of_an_address() -> None:
    assert login_of("postgresql://me:se/cret@h/db") == "me:se/cret@"
    assert login_of("http://mlflow:5000/a@b") == ""
