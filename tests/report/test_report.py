"""The pieces of the page: captions that quote the config, embedded files, provenance, tables."""

import base64
import gzip
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

from intrinsic_lr.claims.shared.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED
from intrinsic_lr.core.storage import sha256, write_json
from intrinsic_lr.report import embed, page, provenance, thumbnails
from intrinsic_lr.report.captions import caption
from intrinsic_lr.report.formulas import formulas
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.analyses import caption as caption_of
from intrinsic_lr.study.claims import CLAIMS, QUESTIONS
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

    def test_processor_and_arithmetic_are_told(self):
        compiled = {"processor": "A CPU", "kernels": "compiled", "instructions": "AVX512"}
        told = provenance.of_trainings([record(**compiled), record(**compiled)])
        assert told["Processor"] == "A CPU"
        assert told["Arithmetic"] == "compiled kernels, AVX512"
        assert provenance.of_trainings([record()])["Processor"] == "not recorded"

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


def test_a_figure_is_embedded_as_text_with_its_words_untouched(tmp_path):
    figure = tmp_path / "a.svg"
    figure.write_text(
        '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">\n<metadata>\n<x/></metadata>\n'
        '<path d="M 1.23456 2 \nL 3.00001 4"/>\n <text x="0.98765">0.0032 &amp; "50 %"</text></svg>\n'
    )
    kind, text = embed.image_url(figure).split(",", 1)
    assert kind == "data:image/svg+xml"
    assert not set(text) & set("\n\"'<>&#")
    root = ElementTree.fromstring(unquote(text))
    path, words = root
    assert path.attrib == {"d": "M 1.23 2 L 3.00 4"}
    assert words.text == '0.0032 & "50 %"'


def test_tables_escape_text_and_leave_out_what_is_missing():
    rows = pd.DataFrame({"quantity": ["<big>. lambda_e"], "here": [float("nan")]})
    columns = {"Quantity": lambda row: formulas(row.quantity), "Here": page._here}
    made = page.table("Numbers", columns, rows)
    assert made["columns"] == ["Quantity", "Here"]
    assert made["rows"][0][0].startswith("&lt;big&gt;. <math>")
    assert made["rows"][0][1] == ""
    assert page.table("Numbers", columns, rows.head(0)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at eta <= 1e-9", "at <math><mi>η</mi><mo>≤</mo><msup><mn>10</mn><mn>−9</mn></msup></math>"),
        ("1/||w||^2.", "<math><mn>1</mn><mo>/</mo><msup>N<mn>2</mn></msup></math>."),
        ("below (p: lambda_e)", "below (p: <math>L</math>)"),
        (">= 2 (p: worse)", "<math><mo>≥</mo><mn>2</mn></math> (p: worse)"),
        ("sqrt(2 lambda_e)", "<math><msqrt><mn>2</mn>L</msqrt></math>"),
        ("lambda_e) (eta", "<math>L</math>) (eta"),
        ("sqrt of 2 lambda_e", "sqrt of <math><mn>2</mn>L</math>"),
        ("(1 - x)^2 + x^2", None),
        ("a k times larger batch, beta, x24", "a k times larger batch, beta, x24"),
    ],
)
def test_formulas_become_mathml(text, expected):
    html = str(formulas(text))
    ElementTree.fromstring(f"<p>{html}</p>")
    names = {"N": "<mrow><mo>‖</mo><mi>w</mi><mo>‖</mo></mrow>", "L": "<msub><mi>λ</mi><mi>e</mi></msub>"}
    if expected:
        for letter, element in names.items():
            html = html.replace(element, letter)
        assert html == expected
    else:
        assert html.startswith("<math>")
        assert html.count("<msup>") == 2


def test_all_that_is_stated_of_claims_becomes_well_formed():
    for claim in CLAIMS.values():
        for text in (claim.title, claim.statement, claim.refuted_by):
            ElementTree.fromstring(f"<p>{formulas(text)}</p>")
        ElementTree.fromstring(f"<p>{page.linked(claim.source)}</p>")


def judged(*verdicts, board="claim", question="weights"):
    stated = SimpleNamespace(board=board, question=question)
    return [{"row": SimpleNamespace(verdict=verdict), "stated": stated} for verdict in verdicts]


def test_the_result_counts_claims_of_the_paper_apart_from_checks_and_additions():
    claims = judged(NOT_REPRODUCED, REPRODUCED, REPRODUCED) + judged(INCONCLUSIVE, board="addition")
    claims += judged(REPRODUCED, NOT_REPRODUCED, board="check")
    told = page._sentences(claims, pd.DataFrame({"verdict": ["rejected", "not rejected"]}))
    assert len(told) == 3
    assert told[0] == "Of 3 claims of the paper 2 are reproduced, 1 is not reproduced."
    assert told[1].startswith("Of 1 additions")
    assert "2 checks of the code 1 hold" in told[2]
    assert "1 of 2 controls" in told[2]


def test_questions_that_are_not_settled_come_first():
    claims = judged(NOT_REPRODUCED, question="symmetry") + judged(INCONCLUSIVE, REPRODUCED, question="weights")
    groups = page._by_question(claims + judged(REPRODUCED, question="functions"))
    assert list(groups) == [QUESTIONS[key] for key in ("symmetry", "weights", "functions")]


def test_the_published_verdicts_are_those_of_the_reference_results():
    published = pd.read_csv(REPOSITORY / "docs/reference/mnist_small/claims.csv")[["claim", "verdict"]]
    pd.testing.assert_frame_equal(pd.read_csv(TEMPLATES / "reference.csv"), published)


def test_the_images_on_which_runs_disagree_come_first_with_the_labels_given(tmp_path):
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * 50
    data, described = tmp_path / "a.safetensors", tmp_path / "a.json"
    save_file({"test_images": images, "test_labels": np.array([0, 1, 2, 0])}, data)
    known = {"name": "a", "classes": ["x", "y", "z"], "mean": [0.5], "std": [0.5]}
    write_json(described, {**known, "sha256": sha256(data)})
    # Of four finite runs half disagree on the third image, one on the first; the fifth run is not finite.
    labels = np.array([[0, 1, 2, 0], [0, 1, 2, 0], [0, 1, 1, 0], [2, 1, 1, 0], [-1, -1, -1, -1]])
    found = thumbnails.disagreed(SimpleNamespace(labels=lambda step: labels), 9, str(data), str(described))
    assert [image["truth"] for image in found["images"]] == ["z", "x"]
    assert [image["labels"] for image in found["images"]] == ["y: 50 %, z: 50 %", "x: 75 %, z: 25 %"]
    assert (found["runs"], found["total"], found["share"]) == (4, 4, 1)
    assert base64.b64decode(found["images"][0]["url"].split(",")[1]).startswith(b"\x89PNG")
    for alike in (labels[:2], labels[4:]):
        same = SimpleNamespace(labels=lambda step, alike=alike: alike)
        assert thumbnails.disagreed(same, 9, str(data), str(described)) is None
