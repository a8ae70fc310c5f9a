"""What an installer, a type checker and a citation manager read of the package."""

import re
import tomllib
from pathlib import Path

import yaml

import sslzoo

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert sslzoo.__version__ == PROJECT["project"]["version"] == str(citation["version"])


def test_the_citation_is_a_citation_file():
    """Of the Citation File Format 1.2.0: what it requires, and no key that it does not have."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["message"]
    assert citation["license"] == PROJECT["project"]["license"]
    names = {"title", "authors", "version", "keywords", "abstract", "url", "repository-code", "date-released"}
    assert citation.keys() <= names | {"cff-version", "message", "type", "license"}
    assert citation["authors"] and all({"name"} == a.keys() or "family-names" in a for a in citation["authors"])


def test_it_says_that_it_is_typed():
    assert (Path(sslzoo.__file__).parent / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]


def test_its_pythons_are_those_that_it_requires():
    pythons = {c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r"Python :: 3\.\d+", c)}
    low, high = (int(n) for n in re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"]))
    assert pythons == {f"3.{minor}" for minor in range(low, high)}
