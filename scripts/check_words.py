"""Count words that Forge's prose does not use; fail where there are more than words.txt allows.

    check_words.py             fails, with every place of a word that became more frequent
    check_words.py --list      prints every place of every word
    check_words.py --update    lowers the numbers to what is there; never raises one

It reads Markdown, and the comments and strings of Python. A line of .config/words.txt is
`NUMBER WORD -> USE`; in WORD a `*` at the end means any ending, a space means any white space, and
`(not after X)` leaves places after the word X out. Numbers are of the whole repository and not of
each file, so that moving a file changes none.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

WORDS = Path(".config/words.txt")
PROSE = ("*.md", ".github/*.md", "docs/**/*.md", "forge/**/*.md")
# Made of texts in the code, which are checked there.
GENERATED = ("docs/reference/commands.md", "docs/reference/python.md")
CODE = ("forge/**/*.py", "stages/**/*.py", "pipelines/**/*.py")
LINE = re.compile(r"(?P<count>\d+) (?P<word>.+?) -> (?P<use>.+)")


@dataclass(frozen=True)
class Word:
    """A word to avoid, what to write instead, and in how many places it still is."""

    word: str
    use: str
    count: int

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return what finds the word as a whole, in any case."""
        word, _, excluded = self.word.removesuffix(")").partition(" (not after ")
        before = rf"(?<!\b{re.escape(excluded)}\s)" if excluded else ""
        stem = r"\s+".join(map(re.escape, word.removesuffix("*").split()))
        ending = r"\w*" if word.endswith("*") else r"\b"
        return re.compile(rf"{before}\b{stem}{ending}", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """A piece of prose and where it begins."""

    path: Path
    line: int
    text: str


def read_words(path: Path) -> list[Word]:
    """Return the words of a file. Raises SystemExit for a line that is not valid."""
    words = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise SystemExit(f"{path}:{number}: not of the form NUMBER WORD -> USE: {line}")
        words.append(Word(found["word"], found["use"], int(found["count"])))
    return words


def texts(root: Path) -> Iterator[Text]:
    """Yield the prose of a repository."""
    generated = {root / name for name in GENERATED}
    for path in sorted({path for pattern in PROSE for path in root.glob(pattern)} - generated):
        yield Text(path, 1, path.read_text("utf-8"))
    for path in sorted({path for pattern in CODE for path in root.glob(pattern)}):
        yield from _of_python(path)


def _of_python(path: Path) -> Iterator[Text]:
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield Text(path, node.lineno, node.value)
    comment: Text | None = None  # lines of one comment are one text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            follows = comment and token.start[0] == comment.line + comment.text.count("\n") + 1
            if comment and follows:
                comment = replace(comment, text=f"{comment.text}\n{text}")
            else:
                if comment:
                    yield comment
                comment = Text(path, token.start[0], text)
    if comment:
        yield comment


def find(word: Word, prose: list[Text], root: Path) -> list[str]:
    """Return `path:line: text` for each place that has a word."""
    found = []
    for text in prose:
        for match in word.pattern.finditer(text.text):
            line = text.line + text.text.count("\n", 0, match.start())
            found.append(f"{text.path.relative_to(root)}:{line}: {match[0]!r}")
    return found


def update(path: Path, counts: dict[str, int]) -> None:
    """Lower the numbers of a file to `counts`, by word."""

    def lowered(match: re.Match[str]) -> str:
        count = min(int(match["count"]), counts[match["word"]])
        return f"{count} {match['word']} -> {match['use']}"

    lines = path.read_text("utf-8").splitlines()
    kept = [line if line.startswith("#") else LINE.sub(lowered, line) for line in lines]
    path.write_text("\n".join(kept) + "\n", "utf-8")


def main(arguments: list[str], root: Path) -> int:
    """Check `root`; returns the exit code."""
    prose = list(texts(root))
    words = read_words(root / WORDS)
    places = {word.word: find(word, prose, root) for word in words}
    if "--update" in arguments:
        update(root / WORDS, {word: len(found) for word, found in places.items()})
        words = read_words(root / WORDS)
    everything = "--list" in arguments
    more = [word for word in words if len(places[word.word]) > word.count]
    for word in words if everything else more:
        found = places[word.word]
        if found:
            said = f"{word.word!r}: {len(found)} places, {word.count} allowed. Use: {word.use}"
            sys.stdout.write("\n".join([*found, said]) + "\n\n")
    return 1 if more and not everything else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
