"""The command line as a user meets it; what trains, in a process of its own."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rwood.__main__ import main
from rwood.config.load import load_study
from tests.a_command import said
from tests.conftest import with_store
from tests.stored_trials import trials_in
from tests.tiny import write_tiny


def rwood(*words: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "rwood", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment,
    )  # fmt: skip


def test_check_prints_the_study_and_its_cost(digits_file: Path, tmp_path: Path) -> None:
    done = said("check", digits_file, "--images-per-s", 1000, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "search: 24 trials, about 138 of 480 epochs" in done.stdout
    assert "benchmark: 10 reruns of 20 epochs" in done.stdout
    assert "worker hours at 1,000 images/s" in done.stdout
    assert "temperature: 0.1" in done.stdout
    assert list(tmp_path.iterdir()) == []
    told = json.loads(said("check", digits_file, "--json", cwd=tmp_path).stdout)
    assert told["study"]["run"]["loss"]["between_shift"] == 4.0
    assert told["cost"]["benchmark"] == "10 reruns of 20 epochs"
    assert told["cost"]["memory"].startswith("about ")
    again = tmp_path / "again.yaml"
    again.write_text(done.stdout, encoding="utf-8")
    assert load_study(again) == load_study(digits_file)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["check", "folders.yaml", "--data", "--data-root", "."],
         "rwood: id.train: mine/train is no folder"),
        (["check", "tiny.yaml", "--data", "--set", "model.weights=nope.pt"],
         "nope.pt: no such file"),
        (["check", "typo.yaml"], "run.epochz: unknown setting; did you mean epochs?"),
        (["run", "strange.yaml"], "digits/eleven is not a known image set; did you mean digits/"),
        (["train", "tiny.yaml", "--set", "loss.tau=1"], "loss.tau is not a setting of a run"),
        (["report", "tiny.yaml"], "has no benchmark yet"),
        (["select", "tiny.yaml"], "no complete trial"),
        (["search", "tiny.yaml", "--results", "/proc/nowhere"], "cannot be written"),
        (["evaluate", "nowhere.pt"], "needs --benchmark FILE"),
        (["evaluate", "no.pt", "--benchmark", "bench.yaml"], "no.pt: no such checkpoint"),
        (["evaluate", "no.pt", "--benchmark", "bench.yaml", "--scorer", "md"],
         "no scorer is called md"),
        (["evaluate", "no.pt", "--benchmark", "bench.yaml", "--protocol", "fsood"],
         "has no covariate-shifted set"),
        (["evaluate", "tiny.yaml", "--export", "x.pt"],
         "tiny.yaml is not a checkpoint of tensors"),
        (["init", "parts", "--near", "x", "--far", "y", "--to", "tiny.yaml"],
         "tiny.yaml cannot be read or written: Not a directory"),
        (["data", "fetch", "cifar11"], "did you mean cifar1"),
        (["data", "verify", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)  # fmt: skip
def test_bad_input_costs_one_sentence_and_exit_code_2(
    tmp_path: Path, digits_file: Path, words: list[str], sentence: str
) -> None:
    write_tiny(tmp_path)
    write_tiny(tmp_path, name="typo", run__epochz=3)
    benchmark = (digits_file.parent / "benchmarks" / "digits.yaml").read_text()
    (tmp_path / "bench.yaml").write_text(benchmark)
    (tmp_path / "odd.yaml").write_text(benchmark.replace("digits/8", "digits/eleven"))
    strange = write_tiny(tmp_path, name="strange")
    text = strange.read_text()
    line = next(row for row in text.splitlines() if row.startswith("benchmark:"))
    strange.write_text(text.replace(line, "benchmark: odd.yaml"))
    folders = benchmark.replace("digits/train", "{folder: mine/train}")
    (tmp_path / "folders_bench.yaml").write_text(folders)
    (tmp_path / "folders.yaml").write_text(text.replace(line, "benchmark: folders_bench.yaml"))
    done = said(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert sentence in " ".join(done.stderr.split())


def test_a_typo_in_a_process(tmp_path: Path) -> None:
    write_tiny(tmp_path, run__epochz=3)
    done = rwood("run", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r"rwood: .*run.epochz: unknown setting; did you mean epochs\?\n", done.stderr
    )


def test_train_evaluate_export(tmp_path: Path, digits_file: Path) -> None:
    write_tiny(tmp_path)
    done = rwood("train", "tiny.yaml", "--set", "epochs=2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert 50 < told["metrics"]["val/auroc"] <= 100
    weights = Path(told["folder"]) / "encoder.pt"
    benchmark = digits_file.parent / "benchmarks" / "digits.yaml"
    exported = tmp_path / "best.ckpt"
    words = ["evaluate", weights, weights, "--benchmark", benchmark, "--scorer", "mahalanobis",
             "--scorer", "knn", "--k", "5", "--csv", "tables", "--export"]  # fmt: skip
    refused = said(*words, exported, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--export takes one checkpoint, got 2" in refused.stderr
    done = rwood(*words[:1], *words[2:], exported, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digit8" in done.stdout
    assert "linear probe accuracy" in done.stdout
    csv = (tmp_path / "tables" / "ood_mahalanobis.csv").read_text().splitlines()
    assert csv[0].startswith(",FPR@95,AUROC,AUPR_IN,AUPR_OUT")
    assert [row.split(",")[0] for row in csv[1:]] == [
        "digit8", "digit9", "nearood", "china", "permuted", "farood",
    ]  # fmt: skip
    words = ["evaluate", exported, "--benchmark", benchmark, "--export", "again.ckpt", "--json"]
    again = rwood(*words, cwd=tmp_path)
    tables = json.loads(again.stdout)[0]["tables"]
    assert f"{tables['ood/mahalanobis']['near']['digit8']['auroc']:.2f}" in csv[1]


def test_ctrl_c_loses_nothing(tmp_path: Path, empty_store: bytes) -> None:
    """Interrupted by the terminal, then left alone: one whole study."""
    write_tiny(tmp_path, search__trials=5)
    with_store(tmp_path / "results", empty_store)
    command = [sys.executable, "-m", "rwood", "run", "tiny.yaml"]
    with subprocess.Popen(
        command, cwd=tmp_path, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # As a terminal starts it, whoever started us.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as first:  # fmt: skip
        assert first.stdout is not None
        lines = []
        for line in first.stdout:
            lines.append(line)
            if "trial 0" in line:
                break
        os.killpg(first.pid, signal.SIGINT)
        lines += first.stdout
    assert first.returncode == 130
    output = "".join(lines)
    assert "interrupted; what ran is saved, the same command goes on from here" in output
    done = rwood("run", "tiny.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\[search\] [0-4] of 5 trials to run", done.stdout)
    trials = trials_in(tmp_path / "results" / "tiny")
    assert sorted(trials) == list(range(5))
    assert all(t.state in ("complete", "pruned") for t in trials.values())
    assert all([r.epoch for r in t.history] == list(range(1, len(t.history) + 1))
               for t in trials.values())  # fmt: skip
    assert "nothing is left to do" in said("run", "tiny.yaml", cwd=tmp_path).stdout
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    names = [run.info.run_name for run in runs]
    assert sorted(names) == sorted(set(names))
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [m.step for m in history] == list(range(1, len(history) + 1))


def test_windows_is_told_so_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rwood.__main__.os.name", "nt")
    with pytest.raises(SystemExit) as ended:
        main()
    monkeypatch.undo()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("rwood: Windows is not supported")


def test_signs_that_a_terminal_lacks_are_told_as_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    monkeypatch.setattr("rwood.__main__.app", lambda: print("65 ± 3, −2 %", flush=True))
    main()
    assert written.getvalue() == b"65 \xb1 3, \\u22122 %\n"


def test_no_module_of_posix_alone_is_imported_at_the_top() -> None:
    code = (Path(__file__).parents[1] / "rwood").rglob("*.py")
    early = [path for path in code if re.search(r"^(import|from) fcntl", path.read_text(), re.M)]
    assert early == []


def test_the_version(tmp_path: Path) -> None:
    assert re.fullmatch(r"rwood \d+\.\d+\.\d+", rwood("--version", cwd=tmp_path).stdout.strip())
