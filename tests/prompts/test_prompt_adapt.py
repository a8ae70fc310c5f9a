"""`sslzoo adapt` by prompts: trained and not, what is stored and predicted, and what is refused."""

import json
import shutil

import pytest
import torch
from conftest import compose
from test_contracts import batch_of
from tiny_tasks import TASKS, kind_of, tiny_run, tiny_task

import sslzoo as package
from sslzoo import weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt, load_adapted
from sslzoo.build import load_objective
from sslzoo.cli.compose import head_of, with_head
from sslzoo.data.base import MASK
from sslzoo.errors import ConfigError
from sslzoo.run import Run

PROMPT = ["prompt.template='{text} it is {mask} .'", "prompt.words=[bad,good]"]


@pytest.fixture
def run(tmp_path) -> Run:
    found = Run(tmp_path / "runs" / "reviews")
    shutil.copytree(tiny_run("tiny_reviews", "text").folder, found.folder)
    return found


def config(run: Run, method: str, *overrides: str) -> dict:
    head = (
        [] if any(o.startswith("head=") for o in overrides) else [f"head={head_of('', 'classification', method, [])}"]
    )
    words = [f"run={run.folder}", "task=classification", "task.name=tiny", f"method={method}", *PROMPT, *head]
    found = compose(*words, "trainer.progress=false", "trainer.max_steps=2", *overrides, command="adapt")
    return {**found, "root": str(run.folder.parent)}


def adapt(run: Run, method: str, *overrides: str) -> Run:
    return Run(run_adapt(config(run, method, *overrides), {"method": method}).parent)


def test_zero_shot_is_a_training_of_no_step(run):
    folder = adapt(run, "zero_shot", "trainer.max_steps=50")
    found, said = json.loads(folder.result.read_text()), json.loads(folder.adapted.read_text())
    assert found["steps"] == found["trained_parameters"] == found["head_parameters"] == 0 and said["trained"] == {}
    assert found["n_test"] and found["metric"] == "accuracy" and not list(folder.folder.glob("checkpoints/*"))
    encoder, objective, _ = load_adapted(run, folder.name)
    job = build_adapt({**config(run, "prompt"), "weights": weights.signature(run.weights)}, run)
    batch = batch_of(job, 0)
    with torch.no_grad():
        expected = job.objective.eval().logits(job.encoder.eval(), batch)
        assert torch.equal(objective.logits(encoder, batch), expected)
    # and those are the language model's own, at the mask
    theirs, encoder, data = load_objective(run)
    tokens = data.tokenizer.encode_apart(["bad", "good"])
    with torch.no_grad():
        whole = theirs.predict(encoder, encoder(batch.inputs, batch.lengths).last)[batch.ids == MASK]
    assert torch.allclose(expected, whole[:, [int(ids[0]) for ids in tokens]], atol=1e-5)


def test_calibration_divides_by_what_says_nothing(run):
    folder = adapt(run, "zero_shot", "objective.content_free=[film,'']", "name=calibrated")
    plain, (encoder, objective, data) = adapt(run, "zero_shot"), load_adapted(run, folder.name)
    _, uncalibrated, _ = load_adapted(run, plain.name)
    job = build_adapt({**config(run, "zero_shot"), "weights": weights.signature(run.weights)}, run)
    batch = batch_of(job, 0)
    with torch.no_grad():
        free = [torch.from_numpy(data.tokenizer.encode(text))[None] for text in ("film", "")]
        assert [int((ids == MASK).sum()) for ids in free] == [1, 1]
        rows = [
            uncalibrated.language_model(encoder, encoder(x, torch.tensor([x.shape[1]])).last)[x == MASK] for x in free
        ]
        tokens = [ids[0] for label in objective.verbalizer.tokens for ids in label]
        share = torch.cat([row[:, tokens].softmax(1) for row in rows]).mean(0)
        expected = uncalibrated.logits(encoder, batch).softmax(1) / share
        found = objective.logits(encoder, batch).softmax(1)
    assert torch.allclose(found, expected / expected.sum(1, keepdim=True), atol=1e-5)
    assert not torch.allclose(found, uncalibrated.logits(encoder, batch).softmax(1), atol=1e-4)


def test_words_of_several_tokens_are_learned_and_predicted(run):
    folder = adapt(run, "prompt", "prompt.words=[bad,w4good]", "trainer.max_steps=2")
    said = json.loads(folder.adapted.read_text())
    assert said["head_parameters"] == 0 < said["trained_parameters"]
    enc = package.load(str(run.folder), adapted=folder.name)
    assert enc.objective.masks > 1
    texts = ["film 3 w1 good high", "film 4 w2 bad low"]
    assert set(enc.predict(texts)) <= {"0", "1"} and len(enc.predict(texts)) == 2
    ids = [torch.from_numpy(enc.tokenizer.encode(text)) for text in texts]
    assert all(int((x == MASK).sum()) == enc.objective.masks for x in ids), "what is predicted is read in the prompt"


def fails(match: str, run: Run, method: str, *overrides: str) -> None:
    with pytest.raises(ConfigError, match=match):
        adapt(run, method, *overrides)
    assert not list(run.folder.glob("adapted/*/result.json"))


@pytest.mark.parametrize(
    ("method", "overrides", "match"),
    [
        ("prompt", ["prompt.template='{text} it is'"], r"prompt.template needs \{mask\} once"),
        (
            "prompt",
            ["prompt.template='{sentence} {mask}'"],
            r"has \{sentence\}, a field that this data lacks; there are",
        ),
        ("prompt", ["prompt.words=[good,good]"], "'good' stands for 0 and for 1"),
        ("prompt", ["prompt.words=[good]"], r"has 1 for 2 labels \(0, 1\): every label needs a word"),
        ("prompt", ["prompt.labels=['0','2']"], "'2' is no label of this data; there are 0, 1"),
        ("prompt", [f"prompt.template='{{text}} {'it is ' * 20} {{mask}}'"], "leave no room for texts in the 24"),
        ("prompt", ["prompt.words=null"], "this task has no prompt: set prompt.template, such as"),
        ("zero_shot", ["head=classification"], "Classification has a head that must be learned"),
        ("zero_shot", ["search.lr=[0.1,0.2]"], "learns nothing, at no learning rate: leave out search.lr"),
    ],
)
def test_what_no_prompt_can_be(method, overrides, match, run):
    if "head=classification" in overrides:
        overrides = [*overrides, "objective.features=pooled"]
    fails(match, run, method, *overrides)


def test_the_texts_of_the_pretraining_need_not_be_there(run):
    found = json.loads(run.encoder.read_text())
    elsewhere = {**found, "data": {**found["data"], "path": "gone"}}
    run.encoder.write_text(json.dumps(elsewhere))
    here = f"data.path={found['data']['path']}"
    settings = ["data=text_table", here, "data.files={train:train.tsv}", "data.text=text", "data.label=label"]
    folder = adapt(run, "zero_shot", *settings, "data.max_tokens=24", "task.label=label")
    assert folder.done and load_adapted(run, folder.name)[1].language_model.dense is not None


def test_a_prompt_for_a_method_that_asks_none(run):
    with pytest.raises(ConfigError, match="prompt.words is for methods that ask by a prompt: set method=prompt"):
        run_adapt(config(run, "full"), {"method": "full"}, given=["task", "prompt.words"])


@pytest.mark.parametrize("kind", ["none", "ELECTRA"])
def test_runs_without_a_language_model(kind, run):
    if kind == "none":
        for path in run.folder.glob("objective.*"):
            path.unlink()
        return fails(
            "has no language model, and a prompt asks for words: `sslzoo pretrain init=.* objective=bert", run, "prompt"
        )
    saved = json.loads(run.objective.read_text())
    saved["objective"] = {"_target_": "sslzoo.objectives.electra.ELECTRA"}
    run.objective.write_text(json.dumps(saved))
    fails("was pretrained with ELECTRA, and its language model is the generator, not the encoder", run, "prompt")


def test_encoders_of_other_than_texts():
    for task in ("image-full", "speech-full"):
        node = {
            **tiny_task(task),
            "objective": compose("run=x", "head=prompt_classification", command="adapt")["objective"],
        }
        node["prompt"] = {"_target_": "sslzoo.prompts.prompt.Prompt", "template": "{text} {mask}", "words": ["a", "b"]}
        run, said = (
            tiny_run(TASKS[task][0], kind_of(task)),
            rf"reads {kind_of(task)}: choose .* or a run of encoder=.*bert_small",
        )
        with pytest.raises(ConfigError, match=said):
            build_adapt(node, run)
        node["objective"] = compose("run=x", "head=classification", command="adapt")["objective"]
        node["method"] = compose("run=x", "method=pet", command="adapt")["method"]
        with pytest.raises(ConfigError, match=said):
            build_adapt(node, run)


def test_a_head_goes_by_the_tasks_kind():
    found = {task: with_head([f"task={task}", "method=prompt"])[-1] for task in ("sst2", "stsb")}
    assert found == {"sst2": "head=prompt_classification", "stsb": "head=prompt_regression"}
    assert with_head(["task=stsb", "method=zero_shot"])[-1] == "head=zero_shot_regression"
    assert with_head(["task=stsb", "method=lm_bff"])[-1] == "head=lm_bff_regression"
    with pytest.raises(
        ConfigError, match="method=prompt is for tasks of classification or regression, and this one is"
    ):
        with_head(["task=upos", "method=prompt"])


def test_a_tasks_prompt_is_chosen_by_its_name():
    found = compose("run=x", "task=rte", "task.data.path=x", "method=prompt", command="adapt")["prompt"]
    assert found["template"] == "{sentence1}? {mask}, {sentence2}" and found["words"] == ["Yes", "No"]
    other = compose("run=x", "task=rte", "task.data.path=x", "task/prompt=sst2", "prompt.words=[a,b]", command="adapt")[
        "prompt"
    ]
    assert other["template"] == "{sentence} It was {mask}." and other["words"] == ["a", "b"]
    assert compose("run=x", "task=digit", "method=prompt", command="adapt")["prompt"]["template"] is None


def test_every_prompt_is_one():
    """Of the data that its task has, with a word for each label that this may have."""
    from sslzoo.config import CONF, choices, options
    from sslzoo.prompts.template import Template
    from sslzoo.prompts.verbalizer import in_order

    assert {"sst2", "cola", "rte", "stsb", "tnews", "ocnli"} <= set(options("task/prompt"))
    tasks = choices("task", options("task/prompt"))
    for path in (CONF / "task" / "prompt").glob("*.yaml"):
        node, data = choices("task/prompt", [path.stem])[path.stem], tasks[path.stem].data
        template = Template(node.template, [name for name in (data.text, data.get("pair")) if name])
        assert len({field for piece in template.pieces for field in piece.fields}) == len(template.names)
        assert len(set(node.words)) == len(node.words)
        if data.get("scores"):
            assert [float(x) for x in node.labels] == list(data.scores) and len(node.words) == 2
        else:
            in_order(node.words, node.labels, list(data.labels))
