"""Two CLUE tasks (2004.05986) whose rows are converted to texts as in the benchmark's baselines."""

from sslzoo.data.table import TextTable
from sslzoo.data.text_fields import Fault, missing


class Keywords(TextTable):
    """CSL: whether all keywords belong to the abstract. A field that is a list of texts is joined with spaces."""

    def fields(self, row: dict) -> dict:
        return {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in row.items()}


class Winograd(TextTable):
    """CLUEWSC 2020: whether a pronoun refers to a noun. In `text` the noun becomes _noun_ and the pronoun [pronoun].

    Fields: text, target {span1_text, span1_index (of the noun), span2_text, span2_index (of the pronoun)}."""

    def fields(self, row: dict) -> dict:
        text, target = row.get("text"), row.get("target")
        if not isinstance(text, str) or not isinstance(target, dict):
            raise Fault(missing("target" if isinstance(text, str) else "text", row))
        marks = []
        for span, (left, right) in (("span1", "__"), ("span2", "[]")):
            word, start = target.get(f"{span}_text"), target.get(f"{span}_index")
            if not isinstance(word, str) or not isinstance(start, int) or not 0 <= start <= len(text):
                raise Fault(f"'target' has no {span}_text and {span}_index within the text")
            marks += [(start + len(word), right), (start, left)]
        for place, mark in sorted(marks, reverse=True):
            text = text[:place] + mark + text[place:]
        return {**row, "text": text}
