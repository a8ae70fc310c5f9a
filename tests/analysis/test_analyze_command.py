"""`sslzoo analyze` as it is typed: what it prints, what it writes, what a report makes of it."""

from analysed import finished

from sslzoo.config import options


def test_a_run_is_analysed_and_reported(sslzoo, tmp_path):
    for name in ("one", "two"):
        finished(tmp_path / "runs" / name, "data=tiny_speech", "encoder=tiny_speech", seed=len(name))
    code, out, err = sslzoo("analyze", "run=one", "analysis=cka", "device=cpu", "analysis.batch=20")
    assert code == 0, err
    assert "linear CKA (unbiased) of the layers of one, 40 items of test" in out
    assert "wrote runs/one/analysis/cka.json" in out and out.endswith("report runs/one\n")
    code, out, err = sslzoo("analyze", "run=one", "other=two", "analysis=cka", "device=cpu")
    assert code == 0 and "wrote runs/one/analysis/cka-two.json" in out, err
    code, out, err = sslzoo("report", "one")
    assert code == 0, err
    page = (tmp_path / "runs" / "one" / "report.html").read_text()
    assert "CKA of the layers of one.</strong>" in page and "CKA of the layers of one and of two.</strong>" in page


def test_what_is_wrong_is_said_in_one_line(sslzoo, tmp_path):
    finished(tmp_path / "runs" / "one", "data=tiny_image", "encoder=tiny_resnet")
    for words, code, message in (
        ([], 2, "analysis is required: set analysis="),
        (["analysis=contexts"], 2, "analysis=contexts is about text, but runs/one reads image"),
        (["analysis=cka"], 2, "ResNet gives one vector an item, and has no layers to compare"),
        (["analysis=cka", "other=none"], 1, "no run 'none'"),
        (["analysis=cka", "other=one", "data=spoken"], 2, "the encoder reads image — mend data"),
        (["analysis=retrieval"], 2, "analysis.pairs is required"),
    ):
        found, _, err = sslzoo("analyze", "run=one", "device=cpu", *words)
        assert found == code and len(err) == 1 and message in err[0], (words, err)


def test_analyses_are_listed(sslzoo):
    code, out, _ = sslzoo("list", "analyses")
    assert code == 0 and all(name in out for name in options("analysis")) and "1905.00414" in out
