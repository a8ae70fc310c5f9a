"""Questions whose answer is in a text."""

from functools import cached_property, partial
from typing import Any

from sslzoo.data.base import Data
from sslzoo.data.question_windows import QuestionWindows
from sslzoo.probe.tasks import Task


class Questions:
    """`Prepared` from the questions of each part, in windows of their paragraphs;
    a part is opened when it is needed."""

    def __init__(self, task: Task, data: Data, stride: int):
        self.task, self.unseen = task, list[str]()
        self.data: Any = data  # has `windows`: see `Task.check`
        self._opened: dict[str, QuestionWindows] = {}

    @cached_property
    def classes(self) -> list[str]:
        """["answer"], and "none" if some questions of train have no answer."""
        unanswerable = any(not one.answers for one in self.split("train").questions)
        return ["answer", "none"] if unanswerable else ["answer"]

    def split(self, part: str) -> QuestionWindows:
        if part not in self._opened:
            self._opened[part] = self.data.windows(part, partial(self.task.some_items, part))
        return self._opened[part]

    def left_out(self, part: str) -> int:
        return self.split(part).left_out

    def cut_texts(self, part: str) -> int:
        return self.split(part).cut_questions
