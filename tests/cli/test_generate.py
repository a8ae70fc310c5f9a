"""`sslzoo generate`: characters learned by heart are gone on with; what cannot be is refused in one line."""

import pytest
from conftest import TINY, compose
from test_contracts import train

ALPHABET = "abcdefghijklmnopqrstuvwxyz\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("generate")
    (folder / "text.txt").write_text(ALPHABET * 200)
    words = "objective=gpt data=characters data.vocab_size=40 data.max_tokens=32 data.batch.size=8 encoder=tiny_gpt"
    more = f"data.path={folder / 'text.txt'} trainer.max_steps=150 trainer.progress=false optim.lr=0.02"
    train(compose(*words.split(), *more.split()), folder / "abc")
    return str(folder / "abc")


def test_goes_on_with_a_text(run, sslzoo):
    code, out, _ = sslzoo("generate", f"run={run}", "prompt=cdefg", "steps=12", "temperature=0")
    assert code == 0 and out == "cdefghijklmnopqrs\n"
    drawn = [sslzoo("generate", f"run={run}", "prompt=cde", "temperature=3.0", f"seed={s}")[1] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2], "a seed's draws are its own"
    code, out, _ = sslzoo("generate", f"run={run}", f"prompt={ALPHABET.strip() * 3}", "steps=500", "temperature=0")
    assert code == 0 and out.startswith(ALPHABET.strip() * 3), "of a long text the end is read"


def test_a_prompt_is_what_it_says(run, sslzoo):
    for prompt in ("To be, or not: that's [it]", "日本語 ☃", "7", "true", "a\\b", "${x}", '"'):
        code, out, err = sslzoo("generate", f"run={run}", f"prompt={prompt}", "steps=0")
        assert (code, out, err) == (0, f"{prompt}\n", [])
    assert sslzoo("generate", f"run={run}", "prompt='a, b'", "steps=0")[1] == "a, b\n", "quoted for Hydra"


def test_several_prompts_side_by_side(run, sslzoo, tmp_path):
    (tmp_path / "prompts.txt").write_text("cdefg\n\nxyz\na\n")
    code, out, _ = sslzoo("generate", f"run={run}", "prompts=prompts.txt", "steps=5", "temperature=0")
    assert code == 0 and out == "cdefghijkl\n---\nxyz\nabcd\n---\nabcdef\n"
    drawn = sslzoo("generate", f"run={run}", "prompts=prompts.txt", "steps=5", "temperature=2.0", "top_p=0.9")[1]
    alone = sslzoo("generate", f"run={run}", "prompt=cdefg", "steps=5", "temperature=2.0", "top_p=0.9")[1]
    assert drawn.split("\n---\n")[0] == alone.rstrip("\n"), "the first text's draws are the first row's"


def test_it_stops_at_a_text(run, sslzoo):
    words = ["generate", f"run={run}", "prompt=cde", "steps=20", "temperature=0"]
    assert sslzoo(*words, "stop=jk")[1] == "cdefghi\n"
    later = [*words[:3], "steps=28", "temperature=0"]
    assert sslzoo(*later, "stop=\n")[1] == "cdefghijklmnopqrstuvwxyz\n"
    assert sslzoo(*words, "stop=never")[1] == sslzoo(*words)[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["prompt=''"], "there is nothing to go on from"),
        (["prompt=abc", "temperature=-1.0"], "temperature >= 0"),
        (["prompt=abc", "steps=many"], "steps must be int"),
        (["prompt=abc", "steps=-1"], "steps must be at least 0, got -1"),
        (["prompt=abc", "top_k=0"], "top_k >= 1"),
        ([], "prompt is required: set prompt=…, or prompts=FILE"),
        (["prompt=abc", "prompts=x.txt"], "prompt and prompts are both set"),
        (["prompts=x.txt"], "cannot read x.txt: No such file"),
        (["prompt=abc", "top_p=2.0"], "top_p above 0 and at most 1, got 2.0"),
        (["prompt=abc", "top_p=many"], "top_p must be"),
        (["prompt=abc", "stop=''"], "stop is empty"),
    ],
)
def test_refuses_in_one_line(run, sslzoo, words, says):
    code, out, err = sslzoo("generate", f"run={run}", *words)
    assert code in (1, 2) and out == "" and len(err) == 1 and says in err[0], err


def test_refuses_a_run_that_reads_in_both_directions(sslzoo):
    words = "objective=bert data=tiny_text encoder=tiny_text trainer.max_steps=2 trainer.progress=false name=both"
    sslzoo("pretrain", *words.split(), f"hydra.searchpath=[file://{TINY}]")
    code, _, err = sslzoo("generate", "run=runs/both", "prompt=abc")
    assert code == 1 and "has learned no text in one direction" in err[0]
