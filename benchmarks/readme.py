"""Put the stored results of benchmarks/results into the README's tables."""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent


def table(name: str) -> str:
    """The stored table of a comparison, with what it was measured on."""
    text = (HERE / "results" / f"{name}.md").read_text().strip()
    said = json.loads((HERE / "results" / f"{name}.json").read_text())
    machine, seeds = said["machine"], ", ".join(map(str, said["seeds"]))
    return (
        f"{text}\n\n<sub>`benchmarks/results/{name}.json`: seeds {seeds}; {machine['cores']} cores ({machine['arch']}); "
        f"{said['minutes']:.0f} minutes in all; commit {str(said['commit'])[:7]}, config {said['config_hash']}.</sub>"
    )


def fill(text: str) -> str:
    """The README with every `<!-- results: NAME -->` ... `<!-- end -->` filled anew."""

    def put(found: re.Match) -> str:
        name = found[1]
        there = (HERE / "results" / f"{name}.json").exists()
        body = table(name) if there else "*Not run yet.*"
        return f"<!-- results: {name} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- results: (\w+) -->.*?<!-- end -->", put, text, flags=re.S)


if __name__ == "__main__":
    readme = HERE.parent / "README.md"
    readme.write_text(fill(readme.read_text()))
