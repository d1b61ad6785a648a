"""The pieces of the page: captions that quote the config, embedded files, provenance, tables."""

import base64
import gzip
from pathlib import Path

import pandas as pd
import pytest
import yaml

from intrinsic_lr.report import embed, page, provenance
from intrinsic_lr.report.captions import caption
from intrinsic_lr.report.symbols import symbols
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.analyses import caption as caption_of
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from plans import plan

REPOSITORY = Path(__file__).parents[2]
TEMPLATES = REPOSITORY / "workflow" / "report"
CONFIG = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())


class TestCaptions:
    POINTS = (
        PlannedPoint("digits", "mlp", 32, 0.1, 0.1),
        PlannedPoint("digits", "mlp", 128, 0.1, 0.1, init_seed=3),
        PlannedPoint("digits", "mlp_trained", 128, 0.1, 0.1, init_seed=10, augmentation="flip"),
    )

    def test_an_experiment_is_told_by_the_points_that_are_drawn(self):
        told = Experiment("both", self.POINTS, replicates=7).caption()
        assert "7 replicates of each setting: dataset digits; model mlp, mlp_trained; batch size 32, 128;" in told
        assert told.endswith("init seed 0, 3, 10; augmentation flip, none.")
        assert "momentum" not in told
        many = Experiment("many", tuple(PlannedPoint("d", "m", 2, k / 10, 0.1) for k in range(1, 9)), 1)
        assert "lr 0.1 to 0.8 (8 values)" in many.caption()

    def test_a_figure_of_the_first_point_is_told_by_it_alone(self):
        told = caption_of(Experiment("both", self.POINTS, 7), ANALYSES["swa"])
        assert "the first of 3 settings: dataset digits; model mlp; batch size 32;" in told
        assert "mlp_trained" in caption_of(Experiment("both", self.POINTS, 7), ANALYSES["curves"])

    @pytest.mark.parametrize("confidence", [0.95, 0.5])
    def test_captions_follow_the_config(self, confidence):
        config = {**CONFIG, "seed": 7, "analysis": {**CONFIG["analysis"], "confidence": confidence}}
        params = {"caption": "told", "statement": "It holds.", "captions": ["one", "two"]}
        for template in ("experiment.rst", "claim.rst", "scorecard.rst"):
            text = " ".join(caption(TEMPLATES / template, config, params).split())
            assert f"eed of the study 7; intervals cover {100 * confidence:g} %" in text
        assert caption(TEMPLATES / "claim.rst", config, params).count("<li>") == 2
        assert "No experiment is trained" in caption(TEMPLATES / "claim.rst", config, {**params, "captions": []})

    def test_a_mistake_in_a_caption_ends_the_program(self, tmp_path):
        (tmp_path / "broken.rst").write_text("``open")
        with pytest.raises(Exception, match="start-string without end-string"):
            caption(tmp_path / "broken.rst", CONFIG, {})


def content(download):
    return base64.b64decode(download.url.split(",")[1])


def test_a_table_is_embedded_as_it_is_compressed_or_named_alone_by_its_size(tmp_path, monkeypatch):
    table = tmp_path / "a.csv"
    table.write_text("x\n1\n")
    download = embed.table_download(table, "Numbers")
    assert (download.name, download.label) == ("a.csv", "Numbers (CSV)")
    assert content(download) == b"x\n1\n"
    text = "x\n" + "12345\n" * 20_000
    table.write_text(text)
    download = embed.table_download(table, "Numbers")
    assert embed.table_download(table, "Numbers") == download
    assert download.name == "a.csv.gz"
    assert gzip.decompress(content(download)).decode() == text
    monkeypatch.setattr(embed, "LARGEST_TABLE", 10)
    download = embed.table_download(table, "Numbers")
    assert download.url is None
    assert download.path.endswith("a.csv")


def record(**changes):
    return {
        "plan": plan(**changes.pop("plan", {})).to_dict(), "seeds": [{}, {}], "non_finite": {},
        "finished": "2020-01-01T00:00:00+00:00", "device": "cpu", "threads": 1, "git_commit": "abc",
        "versions": {"python": "3.11", "torch": "2"}, "training_version": 3, "wall_seconds": 1.5, **changes,
    }  # fmt: skip


class TestProvenance:
    def test_what_differs_is_listed_and_what_agrees_stands_once(self):
        other = record(plan={"point": "q", "init_seed": 1}, git_commit="def", non_finite={"1": 40})
        told = provenance.of_trainings([record(), other])
        assert told["Commits"] == "abc; def"
        assert told["Versions"] == "python 3.11, torch 2"
        assert told["Trainings"] == "4 replicates of 2 settings, in 2 blocks; 1 replicates did not stay finite"
        assert told["Seeds"].startswith("study 0, initialisation 0; 1;")
        assert told["Time of all trainings"] == "3 s"

    def test_what_took_no_training_says_so(self):
        assert provenance.of_trainings([]).keys() == {"Trainings"}
        assert provenance.of_trainings([])["Trainings"].startswith("none")
        assert provenance.of_data([]) == {}

    def test_the_page_names_the_commit_and_the_tools(self, monkeypatch):
        monkeypatch.setattr(provenance, "current_commit", lambda: "abc")
        told = provenance.of_tools()
        assert "pandas 3" in told["Tables and figures"]
        assert told["Verdicts and this page"] == "commit abc"
        monkeypatch.setattr(provenance, "current_commit", lambda: None)
        assert provenance.of_tools()["Verdicts and this page"] == "commit not recorded"


def test_tables_escape_text_round_numbers_and_leave_out_what_is_missing():
    table = pd.DataFrame({"a": ["<b> lambda_e"], "n": [3], "x": [0.123456789], "p": [float("nan")]})
    html = page.html_table(table, {"a": "A", "n": "n", "x": "X", "p": "p"})
    cells = [cell.split("</td>")[0] for cell in html.split("<td>")[1:]]
    assert cells == ["&lt;b&gt; λₑ", "3", "0.1235", ""]


def test_formulas_are_spelt_in_symbols():
    assert symbols("sqrt(2 lambda_e / E||g^||^2) at eta <= 1") == "sqrt(2 λₑ / E‖ĝ‖²) at η ≤ 1"
    assert symbols("beta, x^24, meeting") == "beta, x^24, meeting"
